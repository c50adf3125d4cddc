"""Which tables a statement touches, and how."""

import pytest

from headrace.bridge.owners.finding import Touch
from headrace.bridge.owners.mentions import HOLE, Mention, mentions, statements

READ = Mention(Touch.READ, is_certain=True)
WRITE = Mention(Touch.WRITE, is_certain=True)
BOTH = Mention(Touch.READ | Touch.WRITE, is_certain=True)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT cents FROM balances WHERE who = %s LIMIT %s", READ),
        ("select 1 from shop.balances b join other o on b.who = o.who for update", READ),
        ("INSERT INTO other SELECT * FROM balances", READ),
        ("UPDATE other SET a = 1 FROM balances", READ),
        ("DELETE FROM other USING balances", READ),
        ("COPY (SELECT * FROM balances) TO STDOUT", READ),
        ("CREATE VIEW seen AS SELECT * FROM balances", READ),
        ("CREATE TABLE visits (who bigint REFERENCES balances)", READ),
        ("INSERT INTO balances VALUES (%(who)s, %(cents)s) ON CONFLICT (who) DO NOTHING", WRITE),
        ("INSERT OR REPLACE INTO balances VALUES (?, :cents)", WRITE),
        ("UPDATE ONLY balances SET cents = 0", WRITE),
        ("DELETE FROM balances", WRITE),
        ("TRUNCATE balances, other", WRITE),
        ("COPY balances (who, cents) FROM STDIN", WRITE),
        ("MERGE INTO balances USING new ON a = b WHEN MATCHED THEN DELETE", WRITE),
        ("ALTER TABLE balances ADD COLUMN visits bigint", WRITE),
        ("DROP TABLE IF EXISTS balances", WRITE),
        ("WITH gone AS (DELETE FROM balances RETURNING *) SELECT * FROM gone", WRITE),
        ("INSERT INTO balances SELECT * FROM balances WHERE cents %% 2 = 0", BOTH),
        ("SELECT 1 FROM balances; DELETE FROM balances", BOTH),
        ("-- who\nSELECT 1 FROM balances", READ),
    ],
)
def test_a_statement_reads_or_writes_a_table(statement: str, expected: Mention) -> None:
    assert mentions(statement, "balances") == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("LOCK TABLE balances IN EXCLUSIVE MODE", Touch.WRITE),
        ("REPLACE INTO balances VALUES (?)", Touch.WRITE),
        ("EXPLAIN SELECT * FROM balances", Touch.READ),
        ("SELECT (( FROM balances", Touch.READ),
        ("AND who IN (SELECT who FROM balances)", Touch.READ),
        (f"DELETE FROM {HOLE} WHERE who = 1", Touch.WRITE),
        (f"SELECT 1 FROM bal{HOLE}", Touch.READ),
    ],
)
def test_what_cannot_be_parsed_or_is_put_together_is_uncertain(statement: str, expected: Touch) -> None:
    assert mentions(statement, "balances") == Mention(expected, is_certain=False)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT balances FROM other",
        "SELECT 1 FROM old_balances",
        "SELECT 1 FROM other_schema.balances",
        "WITH balances AS (SELECT 1) SELECT * FROM balances",
        f"SELECT 1 FROM old_{HOLE}",
        f"from {HOLE} to {HOLE}",
        "the sums of all balances",
    ],
)
def test_what_only_looks_like_it_is_not_told(statement: str) -> None:
    assert mentions(statement, "shop.balances") is None


def test_a_script_is_told_by_statement_and_line() -> None:
    script = "-- first\nSELECT 1;\n\nCREATE FUNCTION f() AS $$ SELECT ';' $$;\nDELETE\nFROM balances"
    assert [(line, text.split()[0]) for line, text in statements(script)] == [
        (2, "SELECT"),
        (4, "CREATE"),
        (5, "DELETE"),
    ]
