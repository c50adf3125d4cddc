"""What a watched row was at a position behind: told exactly, or not at all."""

import pytest

from headrace.bridge.shadow.history import UNKNOWN, row_at
from headrace.events.position import Position, TopicPartition
from headrace.tables.watch import WRITES_MAX, PartitionWatch, RowWatch, Write

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
KEY = b"t\0k"


def watched(row: bytes | None = b"0", *, a: int = 0, b: int = 0) -> tuple[PartitionWatch, RowWatch]:
    partition = PartitionWatch()
    return partition, partition.open(b"t\0", "k", KEY, row, Position({A: a, B: b}))


def unit(
    partition: PartitionWatch,
    before: tuple[int, int],
    after: tuple[int, int],
    *writes: tuple[str, int, bytes | None],
) -> None:
    """A unit that writes the row so, from one position to another."""
    notes = partition.begin()
    for write in writes:
        notes.wrote(KEY, Write(*write))
    start, end = (Position({A: at[0], B: at[1]}) for at in (before, after))
    partition.published({KEY: writes[-1][2]}, start, end, notes)


def test_a_row_is_told_as_of_any_event_within_a_unit() -> None:
    partition, watch = watched()
    unit(partition, (0, 0), (10, 0), ("a", 2, b"1"), ("a", 5, None), ("a", 9, b"3"))
    found = [row_at(watch, {A: offset}) for offset in (0, 2, 3, 5, 6, 9, 10, 11)]
    assert found == [b"0", b"0", b"1", b"1", None, None, b"3", b"3"]


def test_an_order_of_two_inputs_in_which_the_row_never_stood_there_is_not_told() -> None:
    partition, watch = watched()
    unit(partition, (0, 0), (1, 1), ("a", 0, b"1"), ("b", 0, b"2"))
    assert row_at(watch, {A: 1, B: 0}) == b"1"
    assert row_at(watch, {A: 0, B: 1}) is UNKNOWN
    assert row_at(watch, {A: 1, B: 1}) == b"2"


def test_an_input_that_the_applier_does_not_read_goes_with_the_event_in_front() -> None:
    partition, watch = watched()
    unit(partition, (0, 0), (2, 1), ("a", 0, b"1"), ("b", 0, b"2"), ("a", 1, b"3"))
    assert row_at(watch, {A: 1}) == b"2"
    assert row_at(watch, {A: 0}) == b"0"


def test_what_began_to_be_watched_inside_a_unit_is_told_at_its_ends_only() -> None:
    partition = PartitionWatch()
    notes = partition.begin()
    watch = partition.open(b"t\0", "k", KEY, b"0", Position({A: 0}))
    notes.wrote(KEY, Write("a", 5, b"2"))
    partition.published({KEY: b"2"}, Position({A: 0}), Position({A: 10}), notes)
    assert row_at(watch, {A: 0}) == b"0"
    assert row_at(watch, {A: 6}) is UNKNOWN
    assert row_at(watch, {A: 10}) == b"2"


def test_a_dead_letter_that_was_brought_back_moves_no_input_and_is_told_behind_it_only() -> None:
    partition, watch = watched(a=4)
    notes = partition.begin()
    notes.blur(KEY)
    partition.published({KEY: b"1"}, Position({A: 4}), Position({A: 4}), notes)
    assert row_at(watch, {A: 4}) is UNKNOWN
    assert row_at(watch, {A: 5}) == b"1"


def test_other_rows_cost_nothing_and_a_closed_watch_hears_no_more() -> None:
    partition, watch = watched()
    partition.published({b"t\0other": b"1"}, Position(), Position(), None)
    assert watch.versions == []
    partition.close(b"t\0", "k", watch)
    assert partition.keys_of(b"t\0") == {}
    unit(partition, (0, 0), (1, 0), ("a", 0, b"1"))
    assert watch.versions == []


def test_two_watches_of_one_row_end_apart() -> None:
    partition, first = watched()
    second = partition.open(b"t\0", "k", KEY, b"0", Position({A: 0}))
    partition.close(b"t\0", "k", first)
    assert partition.keys_of(b"t\0") == {"k": KEY}
    unit(partition, (0, 0), (1, 0), ("a", 0, b"1"))
    assert (first.versions, row_at(second, {A: 1})) == ([], b"1")


@pytest.mark.parametrize("how", ["given up", "too hot"])
def test_a_watch_that_may_have_missed_a_write_says_so(how: str) -> None:
    partition, watch = watched()
    if how == "given up":
        partition.lose()
    else:
        for offset in range(WRITES_MAX + 1):
            unit(partition, (offset, 0), (offset + 1, 0), ("a", offset, b"%d" % offset))
    assert watch.is_lost
    assert watch.versions == []
