"""Who still touches a table: open sessions, rights, what depends on it, and sources that were scanned."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.before.schema import LOYALTY_TABLES
from headrace.bridge.database import connect
from headrace.bridge.owners.finding import Finding, Found, Kind, Own, Touch, Verdict, Whose
from headrace.bridge.owners.looking import look
from headrace.bridge.owners.sources import scan
from headrace.errors import DatabaseUnavailable
from tests.bridge.databases import run
from tests.process.workers import REPOSITORY, Worker

TABLE = "CREATE TABLE balances (who bigint PRIMARY KEY, cents bigint NOT NULL, visits bigint NOT NULL)"
OWN = Own(("headrace shop ",))


def of_kind(found: Found, kind: Kind) -> list[Finding]:
    return [each for each in found.findings if each.kind is kind]


async def looked(url: str, *tables: str) -> Found:
    """What the database knows of these tables, all of which are there."""
    found = Found()
    assert await look(connect(url), tables or ("balances",), OWN, found) == []
    return found


@asynccontextmanager
async def using(
    url: str, name: str, *statements: str, stays_in_transaction: bool = True
) -> AsyncIterator[None]:
    """A session of that name that has run these."""
    async with await psycopg.AsyncConnection.connect(url, application_name=name) as connection:
        await connection.set_autocommit(not stays_in_transaction)
        for statement in statements:
            await connection.execute(statement.encode())
        yield


@pytest.fixture
def role(postgres_url: str) -> Iterator[str]:
    """A role that may log in; it ends with the test, and with it all that was granted to it."""
    name = f"till_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        yield name
        connection.execute(f"DROP OWNED BY {name}".encode())
        connection.execute(f"DROP ROLE {name}".encode())


async def test_open_sessions_are_told_by_what_they_hold_and_the_apps_own_apart(postgres_url: str) -> None:
    await run(postgres_url, TABLE, "CREATE TABLE other (a bigint)")
    async with (
        using(postgres_url, "checkout", "INSERT INTO balances VALUES (1, 2, 3)", "SELECT 1"),
        using(postgres_url, "report", "SELECT * FROM balances"),
        using(postgres_url, "headrace shop old/3", "DELETE FROM balances"),
        using(postgres_url, "stranger", "SELECT * FROM other"),
    ):
        found = await looked(postgres_url)
    sessions = {each.who.split(" as ")[0]: each for each in of_kind(found, Kind.SESSION)}
    assert {who: (each.whose, each.touch) for who, each in sessions.items()} == {
        "checkout": (Whose.OTHER, Touch.WRITE),
        "report": (Whose.OTHER, Touch.READ),
        "headrace shop old/3": (Whose.APP, Touch.WRITE),
    }
    assert "idle in transaction" in sessions["checkout"].what
    assert found.verdict is Verdict.SOMEBODY


async def test_a_session_that_holds_nothing_any_more_is_known_by_its_last_statement(
    postgres_url: str,
) -> None:
    await run(postgres_url, TABLE)
    async with using(postgres_url, "report", "SELECT count(*) FROM balances", stays_in_transaction=False):
        (session,) = of_kind(await looked(postgres_url), Kind.SESSION)
    assert (session.whose, session.touch) == (Whose.OTHER, Touch.READ)
    assert "idle, since" in session.what


async def test_rights_are_told_with_the_role_that_they_come_from(postgres_url: str, role: str) -> None:
    await run(postgres_url, TABLE)
    assert (await looked(postgres_url)).verdict is Verdict.NOBODY
    team = f"{role}_team"
    await run(
        postgres_url,
        f"CREATE ROLE {team}",
        f"GRANT {team} TO {role}",
        f"GRANT INSERT ON balances TO {team}",
        f"GRANT SELECT (cents) ON balances TO {role}",
    )
    try:
        found = await looked(postgres_url)
        ((grant),) = (each for each in of_kind(found, Kind.GRANT) if each.who == role)
        assert (grant.whose, grant.touch) == (Whose.OTHER, Touch.READ | Touch.WRITE)
        assert grant.what == f"INSERT, SELECT on balances as a member of {team}"
        assert found.verdict is Verdict.SOMEBODY
    finally:
        await run(postgres_url, f"DROP OWNED BY {team}", f"DROP ROLE {team}")


async def test_what_depends_on_a_table_is_told_with_who_may_read_it_there(
    postgres_url: str, role: str
) -> None:
    await run(
        postgres_url,
        TABLE,
        "CREATE VIEW rich AS SELECT * FROM balances WHERE cents > 100",
        "CREATE VIEW richest AS SELECT * FROM rich ORDER BY cents DESC LIMIT 1",
        "CREATE TABLE visits (who bigint REFERENCES balances)",
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER note AFTER UPDATE ON balances FOR EACH ROW EXECUTE FUNCTION noted()",
        "CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS 'DELETE FROM balances'",
        "CREATE PUBLICATION changes FOR TABLE balances",
        f"GRANT SELECT ON richest TO {role}",
    )
    found = await looked(postgres_url)
    objects = {each.who.split(" of ")[0]: each for each in of_kind(found, Kind.OBJECT)}
    assert set(objects) == {"rich", "richest", "visits", "note", "forget()", "changes"}
    assert (objects["forget()"].whose, objects["forget()"].touch) == (Whose.UNCLEAR, Touch.WRITE)
    assert {each.touch for name, each in objects.items() if name != "forget()"} == {Touch.READ}
    assert [each.what for each in of_kind(found, Kind.GRANT) if each.who == role] == ["SELECT on richest"]


async def test_a_role_that_may_not_see_all_is_told_so(postgres_url: str, role: str) -> None:
    await run(postgres_url, TABLE)
    as_role = postgres_url.replace("://headrace@", f"://{role}@")
    async with using(postgres_url, "checkout", "SELECT 1"):
        found = await looked(as_role)
        assert "no member of pg_read_all_stats" in found.not_seen[0]
        assert found.verdict is Verdict.UNTOLD
        await run(postgres_url, f"GRANT pg_read_all_stats TO {role}")
        assert (await looked(as_role)).not_seen == []


async def test_counted_statements_are_told_where_the_server_counts_them(postgres_url: str) -> None:
    await run(postgres_url, TABLE)
    assert any(
        "pg_stat_statements is not installed" in each for each in (await looked(postgres_url)).not_there
    )
    # The server of the tests lacks the extension: a view with the columns that are asked for stands for it.
    await run(
        postgres_url,
        "CREATE VIEW pg_stat_statements AS"
        " SELECT 10::oid AS userid, d.oid AS dbid, s.query, 7::bigint AS calls"
        " FROM pg_database d, (VALUES ('UPDATE balances SET cents = $1'), ('SELECT 1')) AS s(query)",
    )
    (statement,) = of_kind(await looked(postgres_url), Kind.STATEMENT)
    assert (statement.touch, statement.what) == (Touch.WRITE, "7 calls: UPDATE balances SET cents = $1")
    # The statement is of the role that asks: whether the app has run it cannot be told.
    assert statement.whose is Whose.UNCLEAR


async def test_a_file_tells_of_its_own_objects_only(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/shop.db"
    with pytest.raises(DatabaseUnavailable):
        await looked(url)
    assert os.listdir(tmp_path) == []
    await run(url, TABLE, "CREATE TABLE alone (a bigint)")
    assert (await looked(url)).verdict is Verdict.NOBODY
    await run(
        url,
        "CREATE VIEW rich AS SELECT * FROM balances WHERE cents > 100",
        "CREATE TABLE visits (who bigint REFERENCES balances)",
        "CREATE TRIGGER forget AFTER DELETE ON alone BEGIN DELETE FROM balances; END",
        "CREATE TRIGGER note AFTER UPDATE ON balances BEGIN INSERT INTO alone VALUES (1); END",
    )
    found = await looked(url)
    assert {each.who: (each.kind, each.touch) for each in found.findings} == {
        "rich": (Kind.OBJECT, Touch.READ),
        "visits": (Kind.OBJECT, Touch.READ),
        "forget": (Kind.OBJECT, Touch.WRITE),
        "note": (Kind.OBJECT, Touch.READ),
    }
    assert "no sessions" in found.not_there[0]


def test_a_scan_finds_the_statements_of_the_old_services_on_loyaltys_tables() -> None:
    found = Found()
    scan([REPOSITORY / "app" / "before"], LOYALTY_TABLES, frozenset(), found)
    certain: dict[str, set[tuple[str, Touch]]] = {name: set() for name in LOYALTY_TABLES}
    for each in (each for each in found.findings if each.whose is Whose.OTHER):
        certain[each.table].add((Path(each.who.rpartition(":")[0]).name, each.touch))
    made = ("schema.py", Touch.WRITE)
    assert certain == {
        "balances": {("loyalty.py", Touch.READ), ("loyalty_tables.py", Touch.WRITE), made},
        "department_spend": {("loyalty.py", Touch.READ), ("loyalty_tables.py", Touch.WRITE), made},
        "coupon_days": {("loyalty_tables.py", Touch.READ), ("loyalty_tables.py", Touch.WRITE), made},
        "judgements": {
            ("loyalty.py", Touch.READ), ("promotions.py", Touch.READ), ("loyalty_tables.py", Touch.WRITE),
            made,
        },
    }  # fmt: skip
    assert found.not_seen == []


def test_a_scan_puts_texts_together_and_says_maybe_where_it_guesses(tmp_path: Path) -> None:
    python = '''"""SELECT * FROM balances: only a docstring."""
TABLE = "balances"
READ = f"SELECT * FROM {TABLE} WHERE who = %s"
WRITE = "INSERT INTO " + TABLE + (
    " VALUES (1, 2)")
def any_of(table): return f"DELETE FROM {table}"
copy_in("balances", rows)
'''
    (tmp_path / "a.py").write_text(python)
    (tmp_path / "b.sql").write_text("SELECT 1;\nUPDATE balances SET cents = 0;\n")
    (tmp_path / "c.go").write_text('package c\nvar q = "select * from balances"\n')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "d.js").write_text("balances")
    found = Found()
    scan([tmp_path], ["balances"], frozenset({(tmp_path / "b.sql").resolve()}), found)
    told = {Path(each.who).name: (each.whose, each.touch) for each in found.findings}
    assert told == {
        "a.py:3": (Whose.OTHER, Touch.READ),
        "a.py:4": (Whose.OTHER, Touch.WRITE),
        "a.py:2": (Whose.UNCLEAR, Touch.UNTOLD),
        "a.py:6": (Whose.UNCLEAR, Touch.WRITE),
        "a.py:7": (Whose.UNCLEAR, Touch.UNTOLD),
        "b.sql:2": (Whose.APP, Touch.WRITE),
        "c.go:2": (Whose.UNCLEAR, Touch.UNTOLD),
    }
    assert len(found.not_seen) == 1
    assert "broken.py" in found.not_seen[0]


async def test_a_script_can_tell_by_the_exit_status(postgres_url: str, tmp_path: Path) -> None:
    await run(postgres_url, TABLE)
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db", "HEADRACE_DATABASE": postgres_url}
    shop = Worker("tests.process.apps.drifting", "one", tmp_path, environment, by_faust=False)
    own = str(REPOSITORY / "tests" / "process" / "apps" / "drifting.py")
    async with using(postgres_url, "headrace drifting old/0", "SELECT * FROM balances"):
        status, output = await shop.command("bridge", "owners", "--source", own, "--json")
    answer = json.loads(output.splitlines()[-1])
    assert (status, answer["verdict"]) == (0, "nobody else touches them")
    assert {each["whose"] for each in answer["findings"]} == {"app"}
    assert {each["kind"] for each in answer["findings"]} == {"session", "source"}

    async with using(postgres_url, "checkout", "SELECT * FROM balances"):
        status, output = await shop.command("bridge", "owners", "balances")
    assert status == 1, output
    assert "checkout as headrace" in output

    status, output = await shop.command("bridge", "owners", "blances")
    assert (status, "has no table blances" in output) == (2, True)
