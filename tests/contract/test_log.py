"""What every log keeps, told once for the embedded, the simulated and the Kafka log."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from headrace.errors import (
    Fenced,
    LogError,
    OffsetOutOfRange,
    RecordRefused,
    RecordTooLarge,
    TopicMismatch,
)
from headrace.events.position import TopicPartition
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Append, Chunk, Closing, Log, Member, Outgoing, Reader, TopicSpec, catalog
from tests.contract.log_worlds import EmbeddedWorld, KafkaWorld, SimulatedWorld, World
from tests.wire.proxy import Proxy

Connect = Callable[[], Awaitable[Log]]


ON_KAFKA = [
    pytest.param(name, marks=pytest.mark.kafka)
    for name in ("kafka", "kafka through a proxy", "kafka with older transactions")
]


@pytest.fixture(params=["embedded", "simulated", *ON_KAFKA])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "embedded":
        yield EmbeddedWorld(tmp_path)
    elif request.param == "simulated":
        yield SimulatedWorld()
    else:
        broker = request.getfixturevalue("kafka_broker").address
        if request.param == "kafka":
            yield KafkaWorld(broker)
        elif request.param == "kafka with older transactions":
            yield KafkaWorld(broker, newest_scheme=Scheme.EPOCH_PER_OWNER)
        else:
            async with Proxy(broker) as proxy:
                yield KafkaWorld(broker, through=proxy.address)


@pytest.fixture
async def connect(world: World) -> AsyncIterator[Connect]:
    """Opens a log as one more worker; all of them are closed at the end."""
    opened: list[Log] = []

    async def another() -> Log:
        log = world.build()
        await log.open()
        opened.append(log)
        return log

    yield another
    for log in opened:
        await log.close()


@pytest.fixture
async def log(connect: Connect) -> Log:
    return await connect()


@pytest.fixture
async def orders(world: World, log: Log) -> str:
    """A topic with two partitions."""
    name = world.name("orders")
    await log.provision([TopicSpec(name=name, partitions=2)])
    return name


@pytest.fixture
async def reading(log: Log) -> AsyncIterator[Callable[..., Awaitable[Reader]]]:
    """Opens readers, which are closed at the end."""
    opened: list[Reader] = []

    async def start(topic: str, **positions: int) -> Reader:
        places = {TopicPartition(topic, int(name[1:])): offset for name, offset in positions.items()}
        opened.append(await log.reader(places))
        return opened[-1]

    yield start
    for reader in opened:
        await reader.close()


Reading = Callable[..., Awaitable[Reader]]


class Row(NamedTuple):
    """A record as it was read."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def event(value: str, key: bytes | None = b"k") -> Outgoing:
    return (key, value.encode(), (), 1_700_000_000_000)


def events(*values: str) -> list[Outgoing]:
    return [event(value) for value in values]


async def fetch(reader: Reader, records_max: int = 10_000) -> Sequence[Chunk]:
    return await reader.fetch(records_max=records_max, bytes_max=8 * 1024 * 1024)


def rows(chunk: Chunk) -> list[Row]:
    columns = (chunk.offsets, chunk.timestamps_ms, chunk.keys, chunk.values, chunk.headers)
    return [
        Row(chunk.partition, offset, timestamp_ms, key, value, tuple(headers))
        for offset, timestamp_ms, key, value, headers in zip(*columns, strict=True)
    ]


async def read(reader: Reader, count: int, records_max: int = 10_000) -> list[Row]:
    """The next `count` records, or some more."""
    found: list[Row] = []
    while len(found) < count:
        for chunk in await fetch(reader, records_max):
            found += rows(chunk)
    return found


async def texts(reader: Reader, count: int) -> list[str]:
    return [(row.value or b"").decode() for row in await read(reader, count)]


async def test_records_are_read_in_the_order_they_were_appended(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, events("a", "b"))])
    await writer.commit([Append(orders, 0, events("c"))])

    found = await read(await reading(orders, p0=0), 3)

    assert [row.value for row in found] == [b"a", b"b", b"c"]
    assert [row.offset for row in found] == sorted({row.offset for row in found})
    await writer.close()


async def test_a_commit_tells_the_offset_after_each_partitions_last_record(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    first = await writer.commit([Append(orders, 0, events("a", "b")), Append(orders, 1, events("c"))])
    second = await writer.commit([Append(orders, 0, events("d"))])

    found = await read(await reading(orders, p0=0, p1=0), 4)

    after = {row.value: row.offset + 1 for row in found}
    assert first == {TopicPartition(orders, 0): after[b"b"], TopicPartition(orders, 1): after[b"c"]}
    assert second == {TopicPartition(orders, 0): after[b"d"]}
    await writer.close()


async def test_a_unit_may_name_a_partition_twice(log: Log, orders: str, reading: Reading) -> None:
    writer = await log.writer("till")
    unit = [Append(orders, 0, events("a")), Append(orders, 1, events("b")), Append(orders, 0, events("c"))]
    offsets = await writer.commit(unit)

    found = await read(await reading(orders, p0=0), 2)

    assert [row.value for row in found] == [b"a", b"c"]
    assert offsets[TopicPartition(orders, 0)] == found[-1].offset + 1
    await writer.close()


async def test_closing_records_know_where_the_others_lie_and_stand_or_fall_with_them(
    connect: Connect, log: Log, orders: str, reading: Reading
) -> None:
    def told(ends: Mapping[TopicPartition, int]) -> list[Outgoing]:
        return events(*(f"{partition} ends at {end}" for (_, partition), end in ends.items()))

    writer = await log.writer("till")
    await writer.commit([], Closing(orders, 1, lambda ends: events(f"nothing, {len(ends)}")))
    ends = await writer.commit([Append(orders, 0, events("a", "b"))], Closing(orders, 1, told))
    successor = await (await connect()).writer("till")
    with pytest.raises(Fenced):
        await writer.commit([Append(orders, 0, events("zombie"))], Closing(orders, 1, told))
    await successor.commit([Append(orders, 0, events("c")), Append(orders, 1, events("d"))])

    told_there = await read(await reading(orders, p1=0), 3)
    assert [row.value for row in told_there[:2]] == [
        b"nothing, 0",
        f"0 ends at {ends[TopicPartition(orders, 0)]}".encode(),
    ]
    assert ends[TopicPartition(orders, 1)] == told_there[1].offset + 1
    assert [told_there[2].value, *await texts(await reading(orders, p0=0), 3)] == [b"d", "a", "b", "c"]
    await writer.close()
    await successor.close()


async def test_a_unit_with_a_record_that_is_too_large_leaves_nothing(
    log: Log, world: World, orders: str, reading: Reading
) -> None:
    small = world.name("small")
    await log.provision([TopicSpec(name=small, partitions=1, record_bytes_max=10_000)])
    large: Outgoing = (b"k", random.Random(7).randbytes(20_000), (), 0)
    writer = await log.writer("till")
    with pytest.raises(RecordTooLarge):
        await writer.commit([Append(orders, 0, events("lost")), Append(small, 0, [event("lost"), large])])
    await writer.close()

    successor = await log.writer("till")
    await successor.commit([Append(orders, 0, events("kept")), Append(small, 0, events("kept"))])

    assert await texts(await reading(orders, p0=0), 1) == ["kept"]
    assert await texts(await reading(small, p0=0), 1) == ["kept"]
    await successor.close()


async def test_a_unit_for_a_partition_that_does_not_exist_is_refused_as_a_whole(
    log: Log, world: World, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    with pytest.raises(LogError):
        await writer.commit([Append(orders, 0, events("lost")), Append(orders, 9, events("lost"))])
    await writer.close()

    successor = await log.writer("till")
    await successor.commit([Append(orders, 0, events("kept"))])

    assert await texts(await reading(orders, p0=0), 1) == ["kept"]
    await successor.close()


async def test_a_compacted_topic_takes_no_record_without_a_key(log: Log, world: World) -> None:
    balances = world.name("balances")
    await log.provision([TopicSpec(name=balances, partitions=1, is_compacted=True)])
    writer = await log.writer("till")
    with pytest.raises(RecordRefused):
        await writer.commit([Append(balances, 0, [event("a", key=None)])])
    await writer.close()


async def test_reading_begins_at_the_position_it_was_given(log: Log, orders: str, reading: Reading) -> None:
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, events("a", "b"))])
    after_two = (await writer.commit([Append(orders, 0, events("c", "d"))]))[TopicPartition(orders, 0)]

    reader = await reading(orders, p0=after_two - 1)

    assert await texts(reader, 1) == ["d"]
    await writer.close()


async def test_following_the_offsets_of_chunks_leads_to_the_end(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, events("a", "b", "c"))])
    place = TopicPartition(orders, 0)
    end = (await log.offsets([place]))[place].end

    reader = await reading(orders, p0=0)
    position = 0
    while position < end:
        for chunk in await fetch(reader, records_max=1):
            assert chunk.offset_next > max([position - 1, *chunk.offsets])
            assert chunk.high_watermark >= chunk.offset_next
            position = chunk.offset_next

    assert position == end
    await writer.close()


async def test_a_waiting_fetch_is_woken_by_a_commit(log: Log, orders: str, reading: Reading) -> None:
    reader = await reading(orders, p0=0, p1=0)
    waiting = asyncio.create_task(texts(reader, 1), name="waiting")
    writer = await log.writer("till")
    await writer.commit([Append(orders, 1, events("news"))])

    assert await waiting == ["news"]
    await writer.close()


async def test_a_waiting_fetch_is_woken_by_another_workers_commit(
    connect: Connect, orders: str, reading: Reading
) -> None:
    reader = await reading(orders, p0=0, p1=0)
    waiting = asyncio.create_task(texts(reader, 1), name="waiting")
    writer = await (await connect()).writer("till")
    await writer.commit([Append(orders, 1, events("news"))])

    assert await waiting == ["news"]
    await writer.close()


async def test_a_cancelled_fetch_loses_nothing(log: Log, orders: str, reading: Reading) -> None:
    reader = await reading(orders, p0=0)
    writer = await log.writer("till")
    found: list[Row] = []
    for number in range(20):
        waiting = asyncio.create_task(read(reader, 1), name="waiting")
        commit = asyncio.create_task(writer.commit([Append(orders, 0, events(str(number)))]), name="commit")
        for _ in range(number):
            await asyncio.sleep(0)
        waiting.cancel()
        await commit
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        found += outcome if isinstance(outcome, list) else []
    found += await read(reader, 20 - len(found))

    assert [row.value for row in found] == [str(number).encode() for number in range(20)]
    await writer.close()


@pytest.mark.timeout(300)  # ten megabytes, through a proxy too, where several suites share two cores
async def test_a_paused_partition_is_not_given_out_and_holds_no_other_back(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    reader = await reading(orders, p0=0, p1=0)
    reader.pause([TopicPartition(orders, 0)])
    bulk = ["x" * 100_000 for _ in range(100)]
    for part in range(0, 100, 10):
        await writer.commit([Append(orders, 0, events(*bulk[part : part + 10]))])
    await writer.commit([Append(orders, 1, events("a", "b"))])
    assert await texts(reader, 2) == ["a", "b"]

    reader.pause([])
    assert await texts(reader, 100) == bulk
    await writer.close()


async def test_two_readers_do_not_take_from_each_other(log: Log, orders: str, reading: Reading) -> None:
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, events("a", "b", "c"))])
    one, two = await reading(orders, p0=0), await reading(orders, p0=0)

    assert await texts(one, 3) == ["a", "b", "c"]
    assert await texts(two, 3) == ["a", "b", "c"]
    await writer.close()


async def test_a_fetch_keeps_to_its_bounds_and_loses_nothing_by_it(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    names = [f"{number:04}" for number in range(500)]
    await writer.commit([Append(orders, 0, events(*names)), Append(orders, 1, events(*names))])
    reader = await reading(orders, p0=0, p1=0)

    found: list[Row] = []
    while len(found) < 1_000:
        chunks = await fetch(reader, records_max=7)
        assert sum(map(len, chunks)) <= 7
        assert len({chunk.partition for chunk in chunks}) == len(chunks)
        found += [row for chunk in chunks for row in rows(chunk)]

    for partition in (0, 1):
        assert [r.value for r in found if r.partition == partition] == [name.encode() for name in names]
    await writer.close()


async def test_a_fetch_with_too_small_a_bound_of_bytes_still_gives_one_record(
    log: Log, orders: str, reading: Reading
) -> None:
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, events("first" * 1_000, "second" * 1_000))])
    reader = await reading(orders, p0=0)

    values: list[bytes | None] = []
    while len(values) < 2:
        for chunk in await reader.fetch(records_max=100, bytes_max=10):
            assert len(chunk) <= 1
            values += chunk.values

    assert values == [b"first" * 1_000, b"second" * 1_000]
    await writer.close()


async def test_whatever_a_record_holds_is_read_back(log: Log, orders: str, reading: Reading) -> None:
    headers = (("hr", b"\x00\xff"), ("trace", b""), ("hr", b"again"), ("größe", b"1"))
    sent: list[Outgoing] = [
        (b"key", b"value", headers, 1_234_567_890_123),
        (None, b"no key", (), 1),
        (b"tombstone", None, (), 2),
        (None, None, (("only", b"headers"),), 3),
        (b"", b"", (), 4),
        (b"\x00\xff", random.Random(1).randbytes(900_000), (), 5),
    ]
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, sent)])

    found = await read(await reading(orders, p0=0), len(sent))

    assert [(row.key, row.value, row.headers, row.timestamp_ms) for row in found] == sent
    await writer.close()


async def test_many_records_in_one_unit_arrive_whole(log: Log, orders: str, reading: Reading) -> None:
    sent = [event(f"{number}-" + "x" * (number % 700)) for number in range(5_000)]
    writer = await log.writer("till")
    await writer.commit([Append(orders, 0, sent), Append(orders, 1, sent)])

    found = await read(await reading(orders, p0=0, p1=0), 10_000)

    for partition in (0, 1):
        assert [row.value for row in found if row.partition == partition] == [
            value for _, value, _, _ in sent
        ]
    await writer.close()


async def test_a_fenced_writers_unit_is_refused_and_never_seen(
    connect: Connect, log: Log, orders: str, reading: Reading
) -> None:
    zombie = await log.writer("till")
    await zombie.commit([Append(orders, 0, events("before"))])
    successor = await (await connect()).writer("till")

    with pytest.raises(Fenced):
        await zombie.commit([Append(orders, 0, events("zombie")), Append(orders, 1, events("zombie"))])
    await zombie.close()
    await successor.commit([Append(orders, 0, events("after")), Append(orders, 1, events("after"))])

    found = await texts(await reading(orders, p0=0, p1=0), 3)
    assert sorted(found) == ["after", "after", "before"]
    await successor.close()


async def test_a_writer_of_another_id_fences_nobody(log: Log, orders: str, reading: Reading) -> None:
    one, two = await log.writer("one"), await log.writer("two")
    await one.commit([Append(orders, 0, events("a"))])
    await two.commit([Append(orders, 0, events("b"))])
    await one.commit([Append(orders, 0, events("c"))])

    assert await texts(await reading(orders, p0=0), 3) == ["a", "b", "c"]
    await one.close()
    await two.close()


async def test_up_to_the_end_that_a_new_writer_finds_is_all_there_will_be_of_older_ones(
    connect: Connect, log: Log, orders: str, reading: Reading
) -> None:
    older = await log.writer("till")
    pending = asyncio.create_task(older.commit([Append(orders, 0, events("pending"))]), name="pending")
    await asyncio.sleep(0)
    successor = await (await connect()).writer("till")
    place = TopicPartition(orders, 0)
    end = (await log.offsets([place]))[place].end
    outcome = await asyncio.gather(pending, return_exceptions=True)
    await successor.commit([Append(orders, 0, events("mark"))])

    found = await read(await reading(orders, p0=0), 1)
    while found[-1].value != b"mark":
        found += await read(await reading(orders, p0=found[-1].offset + 1), 1)

    older_rows = [row for row in found if row.value == b"pending"]
    assert all(row.offset < end for row in older_rows)
    assert bool(older_rows) or isinstance(outcome[0], LogError), "what was acknowledged is there"
    await older.close()
    await successor.close()


async def test_a_missing_topic_is_created_and_an_existing_one_verified(log: Log, world: World) -> None:
    name = world.name("new")
    created = await log.provision([TopicSpec(name=name, partitions=3, is_compacted=True)])
    again = await log.provision([TopicSpec(name=name, partitions=3, is_compacted=True)])
    unnumbered = await log.provision([TopicSpec(name=name)])

    assert created[name].partitions == 3
    assert created == again == unnumbered


async def test_another_number_of_partitions_is_refused(log: Log, orders: str) -> None:
    with pytest.raises(TopicMismatch, match="2 partitions"):
        await log.provision([TopicSpec(name=orders, partitions=4)])


async def test_a_missing_topic_without_a_number_of_partitions_is_refused(log: Log, world: World) -> None:
    name = world.name("elsewhere")
    with pytest.raises(TopicMismatch):
        await log.provision([TopicSpec(name=name)])
    assert await log.describe([name]) == {}


async def test_a_recreated_topic_has_another_identity(log: Log, world: World) -> None:
    name = world.name("short-lived")
    before = (await log.provision([TopicSpec(name=name, partitions=1)]))[name]
    await world.delete(name)
    while await log.describe([name]):
        pass
    after = (await log.provision([TopicSpec(name=name, partitions=1)]))[name]

    assert before.topic_id != after.topic_id
    assert (await log.describe([name]))[name] == after


async def test_describe_leaves_out_what_is_missing(log: Log, world: World, orders: str) -> None:
    found = await log.describe([orders, world.name("missing")])

    assert list(found) == [orders]
    assert found[orders].partitions == 2


async def test_topics_are_listed_in_name_order(log: Log, world: World, orders: str) -> None:
    other = world.name("alpha")
    await log.provision([TopicSpec(name=other, partitions=1)])

    names = [info.name for info in await log.topics()]

    assert {orders, other} <= set(names)
    assert names == sorted(names)


async def test_every_worker_finds_the_same_identities(connect: Connect, log: Log, orders: str) -> None:
    other = await connect()

    assert log.cluster_id
    assert catalog(log, await log.describe([orders])) == catalog(other, await other.describe([orders]))


async def test_offsets_tell_what_a_partition_holds(log: Log, orders: str, reading: Reading) -> None:
    full, empty = TopicPartition(orders, 0), TopicPartition(orders, 1)
    writer = await log.writer("till")
    behind = (await writer.commit([Append(orders, 0, events("a", "b"))]))[full]

    found = await log.offsets([full, empty])

    assert found[full].start == 0
    assert found[full].start <= found[full].stable <= found[full].end
    assert found[full].end >= behind
    assert found[empty] == (0, 0, 0)
    await read(await reading(orders, p0=0), 2)
    assert (await log.offsets([full]))[full].stable >= behind, "what can be read is stable"
    await writer.close()


async def test_offsets_of_a_missing_partition_are_a_mismatch(log: Log, orders: str) -> None:
    with pytest.raises(TopicMismatch):
        await log.offsets([TopicPartition(orders, 7)])


async def test_a_position_beyond_the_end_is_out_of_range_by_name(
    log: Log, orders: str, reading: Reading
) -> None:
    reader = await reading(orders, p0=1_000)
    with pytest.raises(OffsetOutOfRange) as caught:
        await fetch(reader)
    assert (caught.value.topic, caught.value.partition) == (orders, 0)


async def test_the_only_worker_of_an_app_owns_everything(log: Log, world: World) -> None:
    app = world.name("loyalty")
    me = Member(app=app, instance="one", partitions={f"{app}.main.changelog": 4, f"{app}.daily.changelog": 2})
    membership = await log.join(me)

    assignment = await membership.next(-1)
    confirmed = await membership.confirm()

    assert assignment.partitions == {
        f"{app}.main.changelog": frozenset(range(4)),
        f"{app}.daily.changelog": frozenset(range(2)),
    }
    assert assignment.owners == {
        f"{app}.main.changelog": dict.fromkeys(range(4), "one"),
        f"{app}.daily.changelog": dict.fromkeys(range(2), "one"),
    }
    assert confirmed == assignment
    assert len(await log.workers(app)) == 1
    await membership.close()
    assert await log.workers(app) == []
    assert await log.workers(world.name("nobody")) == []


async def test_positions_are_left_for_lag_tools(log: Log, world: World, orders: str) -> None:
    await log.record_lag(world.name("loyalty"), {TopicPartition(orders, 0): 0, TopicPartition(orders, 1): 0})
