"""What only a real Kafka has: transactions of others, groups, broker failures, TLS and SASL."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from headrace.errors import Fenced, LogError, RecordTooLarge, TopicMismatch, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.kafka.membership import KafkaMembership
from headrace.log.kafka.reader import KafkaReader
from headrace.log.port import Append, Chunk, Member, Outgoing, TopicSpec
from headrace.settings import Settings
from headrace.testing.kafka_broker import PASSWORD, USERNAME, KafkaBroker
from tests.kafka_fixture import kafka_lib, require_kafka

pytestmark = pytest.mark.kafka

IMPATIENT = Settings(session_timeout_s=1.0, request_timeout_s=8.0, transaction_timeout_s=5.0)
Connect = Callable[..., Awaitable[KafkaLog]]
BIG = 1 << 20


def unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def record(value: str, key: str = "k") -> Outgoing:
    return (key.encode(), value.encode(), (), int(time.time() * 1000))


async def read_until(reader: KafkaReader, *, end: int) -> list[Chunk]:
    """Chunks of a reader of one partition, until its position is `end`."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(30):
        while not chunks or chunks[-1].offset_next < end:
            chunks += await reader.fetch(records_max=1000, bytes_max=BIG)
    return chunks


async def interrupted(reader: KafkaReader) -> Sequence[Chunk]:
    """What a fetch gave if it was quicker than its cancellation."""
    fetching = asyncio.create_task(reader.fetch(records_max=10, bytes_max=BIG), name="impatient")
    await asyncio.sleep(0)
    fetching.cancel()
    (found,) = await asyncio.gather(fetching, return_exceptions=True)
    return () if isinstance(found, BaseException) else found


def values(chunks: Sequence[Chunk]) -> list[bytes | None]:
    return [value for chunk in chunks for value in chunk.values]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens logs, which are closed at the end."""
    opened: list[KafkaLog] = []

    async def open_log(broker: KafkaBroker, settings: Settings = IMPATIENT) -> KafkaLog:
        log = KafkaLog(settings, address=broker.address)
        await log.open()
        opened.append(log)
        return log

    yield open_log
    for log in opened:
        await log.close()
    await until_unconnected()


async def until_unconnected() -> None:
    """Return once the loop has no connection: TLS says good-bye in turns of it that no `close` waits for."""
    selector = vars(asyncio.get_running_loop())["_selector"]
    own = 1  # what wakes the loop
    async with asyncio.timeout(30):
        while len(selector.get_map()) > own:  # noqa: ASYNC110  (nothing tells of it)
            await asyncio.sleep(0)


@pytest.fixture
async def log(connect: Connect, kafka_broker: KafkaBroker) -> KafkaLog:
    return await connect(kafka_broker)


@pytest.fixture
async def place(log: KafkaLog) -> TopicPartition:
    """The only partition of a new topic."""
    name = unique("facts")
    await log.provision([TopicSpec(name=name, partitions=1)])
    return TopicPartition(name, 0)


async def test_a_newer_holder_of_an_id_fences_the_older_one(log: KafkaLog, place: TopicPartition) -> None:
    name = unique("task")
    older = await log.writer(name)
    await older.commit([Append(*place, [record("before")])])
    newer = await log.writer(name)
    with pytest.raises(Fenced):
        await older.commit([Append(*place, [record("zombie")])])
    end = (await newer.commit([Append(*place, [record("after")])]))[place]
    reader = await log.reader({place: 0})
    assert values(await read_until(reader, end=end)) == [b"before", b"after"]
    await asyncio.gather(older.close(), newer.close(), reader.close())


async def test_a_take_over_ends_the_pending_transaction_of_the_older_holder(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    name = unique("task")
    zombie = AIOKafkaProducer(bootstrap_servers=kafka_broker.address, transactional_id=name)
    await zombie.start()
    await zombie.begin_transaction()
    await zombie.send_and_wait(place.topic, b"pending", partition=0)
    writer = await log.writer(name)
    end = (await log.offsets([place]))[place].end
    assert end == 2, "the record that was never committed, and the marker that aborts it"
    reader = await log.reader({place: 0})
    assert values(await read_until(reader, end=end)) == []
    await asyncio.gather(writer.close(), reader.close())
    await zombie.stop()


async def test_offsets_tell_where_a_transaction_is_open(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    writer = await log.writer(unique("task"))
    await writer.commit([Append(*place, [record("before")])])
    reader = await log.reader({place: 0})
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_broker.address, transactional_id=unique("other")
    ) as producer:
        await producer.begin_transaction()
        first = await producer.send_and_wait(place.topic, b"pending", partition=0)
        await producer.send_and_wait(place.topic, b"pending, too", partition=0)
        held = (await log.offsets([place]))[place]
        assert (held.stable, held.end) == (first.offset, first.offset + 2)
        await producer.commit_transaction()
    # The broker answers a commit before its marker is written; a reader sees the records after it.
    await read_until(reader, end=first.offset + 3)
    behind = (await writer.commit([Append(*place, [record("after")])]))[place]
    await read_until(reader, end=behind + 1)
    held = (await log.offsets([place]))[place]
    assert held.stable == held.end == behind + 1
    await asyncio.gather(writer.close(), reader.close())


async def test_aborted_records_are_stepped_over_among_committed_ones(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_broker.address, transactional_id=unique("other")
    ) as producer:
        for round_number in range(6):
            await producer.begin_transaction()
            for number in range(3):
                await producer.send(place.topic, f"{round_number}.{number}".encode(), partition=0)
            await (producer.abort_transaction() if round_number % 2 else producer.commit_transaction())
    end = (await log.offsets([place]))[place].end
    reader = await log.reader({place: 0})
    expected = [f"{each}.{number}".encode() for each in (0, 2, 4) for number in range(3)]
    assert values(await read_until(reader, end=end)) == expected
    await reader.close()


async def test_a_reader_in_front_of_a_commit_marker_gets_over_it_without_records(
    log: KafkaLog, place: TopicPartition
) -> None:
    writer = await log.writer(unique("task"))
    after_record = (await writer.commit([Append(*place, [record("one")])]))[place]
    reader = await log.reader({place: after_record})
    (chunk,) = await read_until(reader, end=after_record + 1)
    assert len(chunk) == 0
    assert chunk.offset_next == chunk.high_watermark == after_record + 1
    await asyncio.gather(writer.close(), reader.close())


async def test_records_of_compressed_batches_are_read_whoever_gives_up_waiting_for_them(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_broker.address,
        compression_type="gzip",
        linger_ms=20,
        max_batch_size=1 << 17,
    ) as producer:
        noise = random.Random(7)
        facts = [b"%d " % number + noise.randbytes(200) for number in range(2_000)]
        sent = [await producer.send(place.topic, fact, partition=0) for fact in facts]
        await asyncio.gather(*sent)
    reader = await log.reader({place: 123})
    first = await reader.fetch(records_max=10, bytes_max=BIG)
    chunks = [*first, *await interrupted(reader), *await interrupted(reader)]
    assert values(chunks + await read_until(reader, end=2_000)) == facts[123:]
    await reader.close()


async def test_a_record_that_a_topic_refuses_leaves_nothing_of_its_unit_behind(log: KafkaLog) -> None:
    small, large = unique("small"), unique("large")
    await log.provision(
        [TopicSpec(name=small, partitions=1, record_bytes_max=20_000), TopicSpec(name=large, partitions=1)]
    )
    writer = await log.writer(unique("task"))
    fitting = [record("x" * 1_000) for _ in range(100)]  # more than one batch of this topic takes
    behind = (await writer.commit([Append(small, 0, fitting)]))[TopicPartition(small, 0)]
    with pytest.raises(RecordTooLarge) as caught:
        await writer.commit([Append(large, 0, [record("fine")]), Append(small, 0, [record("x" * 30_000)])])
    assert (caught.value.topic, caught.value.partition) == (small, 0)
    await writer.close()
    ends = await log.offsets([TopicPartition(small, 0), TopicPartition(large, 0)])
    assert [each.end for each in ends.values()] == [behind + 1, 0], "its own marker follows the first"


async def test_a_limit_that_was_lowered_meanwhile_aborts_the_transaction(
    log: KafkaLog, kafka_broker: KafkaBroker
) -> None:
    small, large = unique("small"), unique("large")
    await log.provision([TopicSpec(name=name, partitions=1) for name in (small, large)])
    task = unique("task")
    writer = await log.writer(task)
    await writer.commit([Append(small, 0, [record("known limit")])])
    await lower_limit(kafka_broker, small)
    with pytest.raises(RecordTooLarge):
        await writer.commit([Append(large, 0, [record("fine")]), Append(small, 0, [record("x" * 9_000)])])
    await writer.close()
    # The broker answers an abort before its marker is written; the next writer waits for the marker.
    heir = await log.writer(task)
    place = TopicPartition(large, 0)
    end = (await heir.commit([Append(large, 0, [record("after")])]))[place] + 1
    await heir.close()
    reader = await log.reader({place: 0})
    try:
        assert values(await read_until(reader, end=end)) == [b"after"]
    finally:
        await reader.close()


async def lower_limit(broker: KafkaBroker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    configs = {"max.message.bytes": "5000"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    await admin.close()


async def test_a_recreated_topic_has_another_id_and_its_readers_say_so(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    before = (await log.describe([place.topic]))[place.topic].topic_id
    reader = await log.reader({place: 0})
    writer = await log.writer(unique("task"))
    await read_until(reader, end=(await writer.commit([Append(*place, [record("old")])]))[place])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.address)
    await admin.start()
    await admin.delete_topics([place.topic])
    await admin.close()
    after = (await log.provision([TopicSpec(name=place.topic, partitions=1)]))[place.topic].topic_id
    assert after != before
    await writer.close()
    writer = await log.writer(unique("task"))
    await writer.commit([Append(*place, [record(value) for value in ("new", "newer", "newest")])])
    with pytest.raises(TopicMismatch):
        await read_until(reader, end=BIG)
    await asyncio.gather(reader.close(), writer.close())


async def test_a_changelog_that_is_not_compacted_is_refused(log: KafkaLog, place: TopicPartition) -> None:
    with pytest.raises(TopicMismatch, match="compact"):
        await log.provision([TopicSpec(name=place.topic, partitions=1, is_compacted=True)])


async def test_a_changelog_that_forgets_tombstones_too_soon_is_refused(
    log: KafkaLog, place: TopicPartition
) -> None:
    name = f"{place.topic}.changelog"
    short = TopicSpec(name=name, partitions=1, is_compacted=True, delete_retention_ms=60_000)
    await log.provision([short])
    await log.provision([short])
    with pytest.raises(TopicMismatch, match=r"delete.retention.ms is 60000, and 86400000 are needed"):
        await log.provision([replace(short, delete_retention_ms=86_400_000)])


def worker(app: str, instance: str, changelog: str) -> Member:
    return Member(app=app, instance=instance, is_static=True, partitions={changelog: 4})


async def joined(*memberships: KafkaMembership, generation: int = -1) -> list[Mapping[str, frozenset[int]]]:
    """What each member owns in the first generation in which all four partitions are shared out."""
    async with asyncio.timeout(30):
        while True:
            found = [await each.next(generation) for each in memberships]
            newest = max(each.generation for each in found)
            if all(each.generation == newest for each in found):
                owned = [partitions for each in found for partitions in each.partitions.values()]
                if sum(len(partitions) for partitions in owned) == 4:
                    return [each.partitions for each in found]
            generation = newest - 1


async def test_two_workers_share_the_tasks_and_one_inherits_them_when_the_other_dies(
    log: KafkaLog, connect: Connect, kafka_broker: KafkaBroker
) -> None:
    app, changelog = unique("app"), unique("changelog")
    await log.provision([TopicSpec(name=changelog, partitions=4)])
    one = await log.join(worker(app, "one", changelog))
    (alone,) = await joined(one)
    assert alone == {changelog: frozenset(range(4))}
    other_log = await connect(kafka_broker)
    two = await other_log.join(worker(app, "two", changelog))
    shares = await joined(one, two)
    assert sorted(len(share[changelog]) for share in shares) == [2, 2]
    kept = shares[0][changelog]
    confirmed = await one.confirm()
    assert confirmed.partitions == {changelog: kept}
    await two.close()  # a static member does not leave: to the group this is a death
    last = await one.next(confirmed.generation)
    assert last.partitions == {changelog: frozenset(range(4))}
    assert last == await one.confirm()
    await one.close()


async def test_a_worker_that_restarts_in_time_disturbs_nobody(
    connect: Connect, kafka_broker: KafkaBroker
) -> None:
    log = await connect(kafka_broker, Settings(session_timeout_s=20.0))
    app, changelog = unique("app"), unique("changelog")
    await log.provision([TopicSpec(name=changelog, partitions=4)])
    one = await log.join(worker(app, "one", changelog))
    two = await log.join(worker(app, "two", changelog))
    before = await joined(one, two)
    generation = (await one.confirm()).generation
    await two.close()
    two = await log.join(worker(app, "two", changelog))
    again = await two.next(-1)
    assert (again.generation, again.partitions) == (generation, before[1])
    assert (await one.confirm()).generation == generation
    await asyncio.gather(one.close(), two.close())


async def test_a_second_worker_of_the_same_name_ends_the_first_with_a_sentence(
    log: KafkaLog, connect: Connect, kafka_broker: KafkaBroker
) -> None:
    app, changelog = unique("app"), unique("changelog")
    await log.provision([TopicSpec(name=changelog, partitions=4)])
    first = await log.join(worker(app, "same", changelog))
    generation = (await first.next(-1)).generation
    second = await (await connect(kafka_broker)).join(worker(app, "same", changelog))
    await second.next(-1)
    with pytest.raises(LogError, match="another worker has joined"):
        await first.next(generation)
    await asyncio.gather(first.close(), second.close())


async def test_positions_are_left_where_lag_tools_look(
    log: KafkaLog, kafka_broker: KafkaBroker, place: TopicPartition
) -> None:
    app, changelog = unique("app"), unique("changelog")
    await log.provision([TopicSpec(name=changelog, partitions=4)])
    membership = await log.join(worker(app, "one", changelog))
    await membership.next(-1)
    await log.record_lag(app, {place: 42})
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.address)
    await admin.start()
    offsets = {
        tuple(each): found.offset for each, found in (await admin.list_consumer_group_offsets(app)).items()
    }
    await admin.close()
    assert offsets == {tuple(place): 42}
    await membership.close()
    await log.record_lag(app, {place: 43})  # nobody owns it any more: no error either way


@pytest.fixture(scope="module")
def spare_broker() -> Iterator[KafkaBroker]:
    require_kafka()
    with KafkaBroker(lib=kafka_lib()) as broker:
        yield broker


@pytest.fixture
def mortal_broker(spare_broker: KafkaBroker) -> KafkaBroker:
    """A running broker that may be killed or paused."""
    spare_broker.resume()
    if not spare_broker.is_running:
        spare_broker.start()
    return spare_broker


async def test_a_reader_goes_on_when_its_broker_was_killed_and_came_back(
    connect: Connect, mortal_broker: KafkaBroker
) -> None:
    log = await connect(mortal_broker, Settings(request_timeout_s=60.0))
    place = TopicPartition(unique("facts"), 0)
    await log.provision([TopicSpec(name=place.topic, partitions=1)])
    task = unique("task")
    writer = await log.writer(task)
    reader = await log.reader({place: 0})
    await read_until(reader, end=(await writer.commit([Append(*place, [record("before")])]))[place] + 1)
    await asyncio.to_thread(mortal_broker.restart)
    await writer.close()
    writer = await log.writer(task)
    end = (await writer.commit([Append(*place, [record("after")])]))[place]
    assert values(await read_until(reader, end=end)) == [b"after"]
    await asyncio.gather(writer.close(), reader.close())


async def test_a_broker_that_is_gone_for_good_is_unavailable_and_closing_does_not_hang(
    connect: Connect, mortal_broker: KafkaBroker
) -> None:
    log = await connect(mortal_broker, Settings(request_timeout_s=1.5))
    place = TopicPartition(unique("facts"), 0)
    await log.provision([TopicSpec(name=place.topic, partitions=1)])
    task = unique("task")
    writer = await log.writer(task)
    reader = await log.reader({place: 0})
    await asyncio.to_thread(mortal_broker.kill)
    with pytest.raises(Unavailable):
        await writer.commit([Append(*place, [record("lost")])])
    with pytest.raises(Unavailable):
        await reader.fetch(records_max=1, bytes_max=1)
    with pytest.raises(Unavailable):
        await log.writer(task)
    async with asyncio.timeout(5):
        await asyncio.gather(writer.close(), reader.close())


async def test_a_broker_that_stands_still_is_unavailable_too(
    connect: Connect, mortal_broker: KafkaBroker
) -> None:
    log = await connect(mortal_broker, Settings(request_timeout_s=1.5))
    place = TopicPartition(unique("facts"), 0)
    await log.provision([TopicSpec(name=place.topic, partitions=1)])
    task = unique("task")
    writer = await log.writer(task)
    reader = await log.reader({place: 0})
    mortal_broker.pause()
    with pytest.raises(Unavailable):
        await writer.commit([Append(*place, [record("lost")])])
    with pytest.raises(Unavailable):
        await reader.fetch(records_max=1, bytes_max=1)
    async with asyncio.timeout(5):
        await asyncio.gather(writer.close(), reader.close())


async def test_whoever_reads_ahead_or_keeps_the_place_in_the_group_is_missed_when_it_was_cancelled(
    connect: Connect, kafka_broker: KafkaBroker
) -> None:
    log = await connect(kafka_broker)
    place = TopicPartition(unique("facts"), 0)
    await log.provision([TopicSpec(name=place.topic, partitions=1)])
    writer = await log.writer(unique("task"))
    end = (await writer.commit([Append(*place, [record("there")])]))[place]
    await writer.close()
    for part in ("headrace-kafka-reader", "headrace-kafka-poll"):
        before = asyncio.all_tasks()
        reader = await log.reader({place: 0})
        assert values(await read_until(reader, end=end)) == [b"there"]
        for task in asyncio.all_tasks() - before:
            if task.get_name().startswith(part):
                task.cancel()
        with pytest.raises(Unavailable, match="ended from outside"):
            await read_until(reader, end=end + 100)
        await reader.close()
    membership = await log.join(worker(unique("app"), "one", place.topic))
    first = await membership.next(-1)
    for task in asyncio.all_tasks():
        if task.get_name() == "headrace-kafka-membership":
            task.cancel()
    with pytest.raises(LogError, match="ended from outside") as ended:
        await membership.next(first.generation)
    assert not ended.value.is_recoverable
    await membership.close()


@pytest.fixture(scope="module")
def secured_broker() -> Iterator[KafkaBroker]:
    require_kafka()
    with KafkaBroker(lib=kafka_lib(), sasl_tls=True) as broker:
        yield broker


def secured(broker: KafkaBroker, password: str = PASSWORD) -> Settings:
    return Settings(
        kafka_tls=True,
        kafka_ca_file=str(broker.ca_file),
        kafka_sasl="SCRAM-SHA-512",
        kafka_username=USERNAME,
        kafka_password=password,
    )


async def test_all_of_it_works_over_tls_with_scram(connect: Connect, secured_broker: KafkaBroker) -> None:
    log = await connect(secured_broker, secured(secured_broker))
    place = TopicPartition("facts", 0)
    await log.provision([TopicSpec(name="facts", partitions=1)])
    writer = await log.writer("task")
    end = (await writer.commit([Append(*place, [record("secret")])]))[place]
    reader = await log.reader({place: 0})
    assert values(await read_until(reader, end=end)) == [b"secret"]
    membership = await log.join(Member(app="app", instance="one", partitions={"facts": 1}))
    assert (await membership.next(-1)).partitions == {"facts": frozenset({0})}
    await asyncio.gather(writer.close(), reader.close(), membership.close())


async def test_a_wrong_password_is_refused_with_a_hint(secured_broker: KafkaBroker) -> None:
    log = KafkaLog(secured(secured_broker, password="wrong"), address=secured_broker.address)
    with pytest.raises(LogError, match="HEADRACE_KAFKA_PASSWORD") as caught:
        await log.open()
    assert not caught.value.is_recoverable


async def test_a_certificate_that_nobody_vouches_for_is_refused(secured_broker: KafkaBroker) -> None:
    log = KafkaLog(Settings(kafka_tls=True), address=secured_broker.address)
    with pytest.raises(LogError, match="HEADRACE_KAFKA_CA_FILE"):
        await log.open()
