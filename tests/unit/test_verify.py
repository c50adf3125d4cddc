"""A store beside the fold of its changelog: what is a difference, and what only looks like one."""

import pytest

from headrace.cli.verify import Comparison, Fold, Verdict
from headrace.errors import ForkedChangelog
from headrace.events.position import TopicPartition
from headrace.tables.changelog import POSITION_KEY, PositionRecord, encode_position

PLACE = TopicPartition("svc.main.changelog", 0)
MARK = 10

Written = tuple[int, bytes, bytes | None]


def compared(history: list[Written], stored: dict[bytes, bytes]) -> Comparison:
    fold = Fold(PLACE, MARK)
    for record in history:
        fold.add(*record)
    return fold.compare(sorted(stored.items()))


def test_the_last_value_before_the_mark_is_what_a_store_must_hold() -> None:
    history: list[Written] = [(0, b"t\0a", b"1"), (1, b"t\0b", b"1"), (2, b"t\0a", b"2"), (3, b"t\0b", None)]
    assert compared(history, {b"t\0a": b"2"}) == Comparison(rows=1)


@pytest.mark.parametrize(
    ("stored", "counts"),
    [
        ({b"t\0a": b"1"}, (1, 0, 0)),
        ({}, (0, 1, 0)),
        ({b"t\0a": b"2", b"t\0x": b"2"}, (0, 0, 1)),
    ],
)
def test_another_a_missing_and_an_invented_row_are_differences(
    stored: dict[bytes, bytes], counts: tuple[int, int, int]
) -> None:
    found = compared([(0, b"t\0a", b"2")], stored)
    assert found.verdict is Verdict.DIFFERENT
    assert (found.different, found.missing, found.extra) == counts
    assert len(found.examples) == 1


def test_a_deleted_row_that_is_still_there_is_a_difference() -> None:
    assert compared([(0, b"t\0a", b"1"), (1, b"t\0a", None)], {b"t\0a": b"1"}).extra == 1


def test_rows_newer_than_the_mark_are_no_difference() -> None:
    history: list[Written] = [
        (0, b"t\0a", b"1"),
        (1, b"t\0b", b"1"),
        (12, b"t\0a", b"2"),
        (13, b"t\0b", None),
    ]
    assert compared(history, {b"t\0a": b"2"}).verdict is Verdict.EQUAL
    assert compared(history, {b"t\0a": b"1", b"t\0b": b"1"}).verdict is Verdict.EQUAL


def test_a_row_whose_record_was_compacted_away_cannot_be_judged_and_is_counted() -> None:
    found = compared([(12, b"t\0a", b"9")], {b"t\0a": b"1"})
    assert (found.verdict, found.compacted) == (Verdict.EQUAL, 1)


def test_a_changelog_whose_unit_numbers_fall_is_forked() -> None:
    fold = Fold(PLACE, MARK)
    fold.add(1, POSITION_KEY, encode_position(PositionRecord(unit=2, inputs={})))
    with pytest.raises(ForkedChangelog):
        fold.add(2, POSITION_KEY, encode_position(PositionRecord(unit=2, inputs={})))
