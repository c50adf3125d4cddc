"""What the embedded log forgets, and what it never does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.errors import OffsetOutOfRange
from headrace.events.position import TopicPartition
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Outgoing, TopicSpec

MINUTE_S = 60.0
HOUR_MS = 3_600_000
DAY_S = 86_400.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def log(tmp_path: Path, clock: Clock) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log.db", clock=clock)
    await log.open()
    await log.provision(
        [
            TopicSpec(name="rows", partitions=1, is_compacted=True, compaction_lag_ms=HOUR_MS),
            TopicSpec(name="events", partitions=1, retention_ms=HOUR_MS),
            TopicSpec(name="kept", partitions=1),
        ]
    )
    yield log
    await log.close()


def row(key: str, value: str | None) -> Outgoing:
    return (key.encode(), None if value is None else value.encode(), (("h", b"1"),), 7)


async def commit(log: EmbeddedLog, topic: str, *records: Outgoing) -> int:
    writer = await log.writer("test")
    offsets = await writer.commit([Append(topic, 0, records)])
    await writer.close()
    return offsets[TopicPartition(topic, 0)]


async def read(
    log: EmbeddedLog, topic: str, position: int = 0
) -> list[tuple[int, bytes | None, bytes | None]]:
    """Everything from a position up to the end."""
    place = TopicPartition(topic, 0)
    end = (await log.offsets([place]))[place].end
    reader = await log.reader({place: position})
    found: list[tuple[int, bytes | None, bytes | None]] = []
    while position < end:
        for chunk in await reader.fetch(records_max=3, bytes_max=1_000):
            found += zip(chunk.offsets, chunk.keys, chunk.values, strict=True)
            position = chunk.offset_next
    await reader.close()
    assert position == end
    return found


async def test_compaction_keeps_the_last_record_of_each_key_at_its_offset(
    log: EmbeddedLog, clock: Clock
) -> None:
    await commit(log, "rows", row("a", "1"), row("b", "1"), row("a", "2"))
    await commit(log, "rows", row("b", "2"), row("c", "1"))
    clock.now_s += DAY_S
    await commit(log, "rows", row("tail", "1"))

    await log.maintain()

    assert await read(log, "rows") == [(2, b"a", b"2"), (3, b"b", b"2"), (4, b"c", b"1"), (5, b"tail", b"1")]


async def test_compaction_leaves_young_records_whole(log: EmbeddedLog, clock: Clock) -> None:
    await commit(log, "rows", row("a", "1"))
    await commit(log, "rows", row("a", "2"))
    clock.now_s += MINUTE_S
    await commit(log, "rows", row("tail", "1"))

    await log.maintain()

    assert [value for _, _, value in await read(log, "rows")] == [b"1", b"2", b"1"]


async def test_compaction_never_touches_the_tail(log: EmbeddedLog, clock: Clock) -> None:
    await commit(log, "rows", row("a", "1"))
    await commit(log, "rows", row("a", "2"), row("a", "3"))
    clock.now_s += DAY_S

    await log.maintain()

    assert [offset for offset, _, _ in await read(log, "rows")] == [0, 1, 2]


async def test_a_tombstone_stays_for_a_day_and_then_goes(log: EmbeddedLog, clock: Clock) -> None:
    await commit(log, "rows", row("gone", "1"))
    await commit(log, "rows", row("gone", None))
    await commit(log, "rows", row("other", "1"))
    clock.now_s += DAY_S / 2
    await commit(log, "rows", row("other", "2"))
    await log.maintain()
    assert await read(log, "rows") == [(1, b"gone", None), (2, b"other", b"1"), (3, b"other", b"2")]

    clock.now_s += DAY_S
    await commit(log, "rows", row("other", "3"))
    await commit(log, "rows", row("tail", "1"))
    await log.maintain()

    assert b"gone" not in [key for _, key, _ in await read(log, "rows")]


async def test_a_reader_gets_over_what_was_compacted_away(log: EmbeddedLog, clock: Clock) -> None:
    for number in range(10):
        await commit(log, "rows", row("a", str(number)))
    clock.now_s += DAY_S
    end = await commit(log, "rows", row("a", "last"))
    await log.maintain()

    place = TopicPartition("rows", 0)
    for position in range(end):
        found = await read(log, "rows", position)
        assert found[-1] == (end - 1, b"a", b"last")
        assert all(offset >= position for offset, _, _ in found)
    assert (await log.offsets([place]))[place] == (0, end, end)


async def test_a_position_behind_the_last_survivor_is_reached_without_records(
    log: EmbeddedLog, clock: Clock
) -> None:
    many = [row(str(number % 3), str(number)) for number in range(2_500)]
    end = await commit(log, "rows", *many)
    await commit(log, "rows", *many)
    clock.now_s += DAY_S
    await commit(log, "rows", row("tail", "1"))
    await log.maintain()

    found = await read(log, "rows", end - 1)

    # The last batch of the second commit is no tail any more; its last three records survive.
    assert [key for _, key, _ in found] == [b"1", b"2", b"0", b"tail"]


async def test_compaction_goes_on_where_it_ended(log: EmbeddedLog, clock: Clock) -> None:
    for round_number in range(4):
        for number in range(40):
            await commit(log, "rows", row(str(number), f"{round_number}"))
        clock.now_s += DAY_S
        await log.maintain()

    found = [(key, value) for _, key, value in await read(log, "rows")]

    # Each round the last batch was the tail and spared its predecessor until the next one.
    assert found == [(b"39", b"2"), *((str(number).encode(), b"3") for number in range(40))]


async def test_retention_drops_whole_old_batches_and_raises_the_start(log: EmbeddedLog, clock: Clock) -> None:
    old_end = await commit(log, "events", row("a", "1"), row("b", "1"))
    clock.now_s += DAY_S
    await commit(log, "events", row("c", "1"))

    await log.maintain()

    place = TopicPartition("events", 0)
    assert (await log.offsets([place]))[place] == (old_end, old_end + 1, old_end + 1)
    assert await read(log, "events", old_end) == [(old_end, b"c", b"1")]
    reader = await log.reader({place: 0})
    with pytest.raises(OffsetOutOfRange, match="2 up to before 3"):
        await reader.fetch(records_max=10, bytes_max=1_000)
    await reader.close()


async def test_retention_may_empty_a_partition_whose_offsets_go_on(log: EmbeddedLog, clock: Clock) -> None:
    for number in range(100):
        await commit(log, "events", row("a", str(number)))
    clock.now_s += DAY_S
    await log.maintain()

    place = TopicPartition("events", 0)
    assert (await log.offsets([place]))[place] == (100, 100, 100)
    assert await commit(log, "events", row("b", "1")) == 101
    assert await read(log, "events", 100) == [(100, b"b", b"1")]


async def test_a_topic_without_retention_is_kept_for_ever(log: EmbeddedLog, clock: Clock) -> None:
    await commit(log, "kept", row("a", "1"), row("a", "2"))
    clock.now_s += 10_000 * DAY_S

    await log.maintain()

    assert len(await read(log, "kept")) == 2
