"""What a follower shows of a changelog: whole units with their position, none that compaction has torn."""

import asyncio

import msgspec
import pytest

from headrace import Position, TopicPartition, errors
from headrace.events.seen import Seen
from headrace.flow.causality import input_print
from headrace.flow.followed import BEHIND_MS_MAX, FellBehind, FollowedPartition
from headrace.flow.group import Group
from headrace.log.port import Chunk
from headrace.tables.changelog import (
    POSITION_KEY,
    InputPosition,
    PositionRecord,
    Reset,
    decode_mark,
    encode_position,
)
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.view import ViewState
from headrace.testing.virtual_clock import VirtualClock
from tests.flow.priced_shop import open_priced_shop

CHANGELOG = TopicPartition("priced.prices.changelog", 0)
INPUT = TopicPartition("priced.events", 0)
REPLAY = "priced.prices.replay"
A, B = b"prices\0a", b"prices\0b"

Record = tuple[bytes | None, bytes | None]


def unit(number: int, offset_next: int, *rows: Record, reset: Reset | None = None) -> list[Record]:
    """A unit as it lies in the changelog."""
    inputs = {INPUT.topic: InputPosition("id", offset_next), REPLAY: InputPosition("replay id", 0)}
    return [*rows, (POSITION_KEY, encode_position(PositionRecord(number, inputs, reset)))]


class Followed:
    """One partition that is followed from the beginning of a changelog."""

    def __init__(self) -> None:
        shop = open_priced_shop(partitions=1)
        declared = shop.app.declarations
        group = Group(
            app="priced",
            name="prices",
            changelog=CHANGELOG.topic,
            inputs={INPUT.topic: shop.priced},
            agents=[agent for agent in declared.agents if agent.group == "prices"],
            tables=[shop.prices],
            partitions=1,
        )
        self.clock = VirtualClock()
        self.store = MemoryStore()
        self.all = GlobalView("prices", [INPUT.topic], 1)
        self.view = self.all.partitions[0]
        self.partition = FollowedPartition(
            group,
            self.all,
            0,
            self.store,
            changelog_id="id",
            last=None,
            offset_next=0,
            clock=self.clock,
        )
        self.partition.begin()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.move_to(self.clock.passed_s + seconds)

    async def take(
        self, records: list[Record], *, start: int, end: int | None = None, age_ms: int = 0
    ) -> None:
        """What a reader would give of these records, the first one at `start`."""
        now_ms, stop = int(self.clock.time() * 1000), start + len(records)
        await self.partition.take(
            Chunk(
                *CHANGELOG,
                range(start, stop),
                [now_ms - age_ms] * len(records),
                [key for key, _ in records],
                [value for _, value in records],
                [()] * len(records),
                stop,
                stop if end is None else end,
            )
        )


async def test_rows_and_position_of_a_unit_become_visible_together_once_all_of_it_is_there() -> None:
    followed = Followed()
    whole = unit(1, 3, (A, b"1"), (B, b"2"))
    for cut in range(len(whole)):
        version = followed.all.version
        await followed.take(whole[cut : cut + 1], start=cut, end=3)
        if cut < len(whole) - 1:
            assert followed.view.get(A) is None
            assert followed.all.position == Position({INPUT: 0})
            assert followed.all.version == version
    assert (followed.view.get(A), followed.view.get(B)) == (b"1", b"2")
    assert followed.all.position == Position({INPUT: 3})
    assert followed.all.version > version


async def test_what_has_arrived_of_the_next_unit_does_not_hold_back_the_units_before_it() -> None:
    followed = Followed()
    records = [*unit(1, 1, (A, b"1")), *unit(2, 2, (A, b"2")), *unit(3, 3, (A, b"3"), (B, b"3"))]
    await followed.take(records[:5], start=0, end=7)
    assert followed.view.get(A) == b"2"
    assert followed.all.position == Position({INPUT: 2})
    assert followed.partition.offset_next == 4
    mark = decode_mark(followed.store.mark)
    assert mark is not None
    assert (mark.changelog_offset_next, mark.is_restoring) == (4, False)
    assert followed.all.behind() == {0: 3}


async def test_a_reader_that_begins_anew_begins_at_the_end_of_the_last_whole_unit() -> None:
    followed = Followed()
    records = [*unit(1, 1, (A, b"1")), *unit(2, 2, (A, b"2"), (B, b"2"))]
    await followed.take(records[:3], start=0, end=5)
    followed.partition.forget()
    await followed.take(records[2:], start=followed.partition.offset_next)
    assert (followed.view.get(A), followed.view.get(B)) == (b"2", b"2")


@pytest.mark.parametrize(
    ("records", "gap_at"),
    [
        pytest.param([*unit(2, 2, (A, b"2"), (B, b"2"))], 1, id="a row of the unit is missing"),
        pytest.param([(A, b"2"), *unit(3, 3, (A, b"3"))], 1, id="the end of the unit is missing"),
        pytest.param([*unit(3, 3, (A, b"3"))], 0, id="a unit is missing"),
    ],
)
async def test_a_unit_that_compaction_has_torn_is_never_shown(records: list[Record], gap_at: int) -> None:
    followed = Followed()
    await followed.take(unit(1, 1, (A, b"1"), (B, b"1")), start=0)
    if gap_at:
        await followed.take(records[:gap_at], start=4, end=9)
    with pytest.raises(FellBehind):
        await followed.take(records[gap_at:], start=4 + gap_at + 2)
    assert (followed.view.get(A), followed.view.get(B)) == (b"1", b"1")
    assert followed.all.position == Position({INPUT: 1})


async def test_gaps_between_units_are_the_logs_own_and_no_matter() -> None:
    followed = Followed()
    await followed.take(unit(1, 1, (A, b"1")), start=0)
    await followed.take(unit(2, 2, (A, b"2")), start=7)
    assert followed.view.get(A) == b"2"


async def test_a_unit_that_was_written_long_ago_may_be_torn_and_is_not_shown() -> None:
    followed = Followed()
    await followed.take(unit(1, 1, (A, b"1")), start=0, end=99)
    followed.pass_time(BEHIND_MS_MAX / 1000 + 1)
    with pytest.raises(FellBehind):
        await followed.take(unit(2, 2, (A, b"2")), start=2, end=99, age_ms=BEHIND_MS_MAX + 1)
    assert followed.view.get(A) == b"1"


async def test_a_changelog_that_was_quiet_for_long_goes_on_as_if_it_had_not_been() -> None:
    followed = Followed()
    await followed.take(unit(1, 1, (A, b"1")), start=0)
    followed.pass_time(BEHIND_MS_MAX / 1000 * 5)
    await followed.take(unit(2, 2, (A, b"2")), start=2)
    assert followed.view.get(A) == b"2"


async def test_a_writer_whose_clock_is_hours_behind_is_followed_all_the_same() -> None:
    followed = Followed()
    for number in range(1, 4):
        await followed.take(unit(number, number, (A, b"%d" % number)), start=2 * number, age_ms=9_000_000)
        followed.pass_time(60)
    assert followed.view.get(A) == b"3"


async def test_a_follower_that_never_reaches_the_end_but_keeps_pace_goes_on() -> None:
    followed = Followed()
    for number in range(1, 20):
        await followed.take(
            unit(number, number, (A, b"%d" % number)), start=2 * number, end=2 * number + 10, age_ms=600_000
        )
        followed.pass_time(BEHIND_MS_MAX / 1000 / 6)
    assert followed.view.get(A) == b"19"


async def test_unit_numbers_that_fall_and_foreign_records_are_a_forked_changelog() -> None:
    foreign: list[list[Record]] = [unit(1, 1, (A, b"2")), [(b"\0what", b"x")], [(None, b"x")]]
    for records in foreign:
        followed = Followed()
        await followed.take(unit(1, 1, (A, b"1")), start=0)
        with pytest.raises(errors.ForkedChangelog):
            await followed.take(records, start=2)


async def test_a_table_that_is_being_rebuilt_is_not_shown_before_it_is_where_it_was() -> None:
    followed = Followed()
    await followed.take(unit(1, 5, (A, b"1"), (B, b"1")), start=0)
    clearing = Reset(muted_until={INPUT.topic: 5}, is_clearing=True)
    await followed.take(unit(2, 0, reset=clearing), start=3)
    with pytest.raises(errors.StillRecovering):
        followed.view.get(A)
    assert followed.all.position == Position({INPUT: 0})
    await followed.take(unit(3, 0, (A, None), (B, None), reset=Reset({INPUT.topic: 5})), start=4)
    await followed.take(unit(4, 4, (A, b"4"), reset=Reset({INPUT.topic: 5})), start=7)
    assert followed.view.state is ViewState.RESTORING
    await followed.take(unit(5, 5, (B, b"5"), reset=Reset()), start=9)
    assert (followed.view.get(A), followed.view.get(B)) == (b"4", b"5")
    assert followed.all.position == Position({INPUT: 5})


async def test_inputs_that_the_group_once_had_are_part_of_what_its_rows_have_seen() -> None:
    followed = Followed()
    old, seen = InputPosition("old id", 9), Seen({b"p" * 14: 4})
    record = PositionRecord(1, {INPUT.topic: InputPosition("id", 1), "old": old}, seen=seen.encode())
    await followed.take([(POSITION_KEY, msgspec.json.encode(record))], start=0)
    assert followed.all.seen == seen.merge(Seen({input_print("old", old, 0): 9}))
    assert followed.all.position == Position({INPUT: 1})


async def test_before_the_first_unit_a_follower_stands_at_the_beginning_and_can_be_waited_for() -> None:
    followed = Followed()
    assert followed.view.position == Position({INPUT: 0})
    waiting = asyncio.create_task(followed.view.reached({INPUT: 3}), name="waiting")
    await asyncio.sleep(0)
    assert not waiting.done()
    await followed.take(unit(1, 3), start=0)
    await waiting
