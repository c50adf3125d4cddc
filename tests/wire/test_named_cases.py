"""What a network and a broker can do to one transaction, case by case."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from headrace.errors import CommitUnknown, Fenced, RecordTooLarge, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.codes import Code
from headrace.log.kafka.log import KafkaLog
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Append, Closing, Outgoing, TopicSpec
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.kafka_fixture import kafka_lib, require_kafka
from tests.wire.frames import Api
from tests.wire.proxy import Proxy
from tests.wire.script import Fault, Point, Rule

pytestmark = pytest.mark.kafka

IMPATIENT = Settings(request_timeout_s=4.0, transaction_timeout_s=30.0)
LATE_S = 30.0
TRANSACTION = (Api.ADD_PARTITIONS, Api.PRODUCE, Api.END_TXN)
WHEN_TOLD = Point(Api.OTHER, 0)
"""No request: the test itself says when."""


def unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def records(*values: str) -> list[Outgoing]:
    return [(b"k", value.encode(), (), int(time.time() * 1000)) for value in values]


@pytest.fixture
async def proxy(kafka_broker: KafkaBroker) -> AsyncIterator[Proxy]:
    async with Proxy(kafka_broker.address) as proxy:
        yield proxy


@pytest.fixture
async def log(proxy: Proxy) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(IMPATIENT, address=proxy.address)
    await log.open()
    yield log
    await log.close()


@pytest.fixture
async def changelog(log: KafkaLog) -> TopicPartition:
    name = unique("changelog")
    await log.provision([TopicSpec(name=name, partitions=1)])
    return TopicPartition(name, 0)


@pytest.fixture
async def outputs(log: KafkaLog) -> TopicPartition:
    name = unique("outputs")
    await log.provision([TopicSpec(name=name, partitions=1)])
    return TopicPartition(name, 0)


async def committed(log: KafkaLog, place: TopicPartition, *, to_stable: bool = False) -> list[str]:
    """All values that a committed reader finds, up to the end, or to where a transaction is open."""
    reached = (await log.offsets([place]))[place]
    at, end = 0, reached.stable if to_stable else reached.end
    reader = await log.reader({place: 0})
    found: list[str] = []
    try:
        async with asyncio.timeout(30):
            while at < end:
                for chunk in await reader.fetch(records_max=1_000, bytes_max=1 << 20):
                    found += [(value or b"").decode() for value in chunk.values]
                    at = chunk.offset_next
    finally:
        await reader.close()
    return found


async def until_open(log: KafkaLog, place: TopicPartition) -> None:
    """Return once a transaction is open in a partition: the broker tells nobody of it by itself."""
    async with asyncio.timeout(30.0):
        while (reached := (await log.offsets([place]))[place]).stable >= reached.end:
            pass


async def test_a_delayed_end_of_a_transaction_does_not_end_a_later_one(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition, outputs: TopicPartition
) -> None:
    """The first owner's EndTxn is still on its way when the second owner's transaction is open."""
    script, task = proxy.script, unique("task")
    owner = await log.writer(task)
    await owner.commit([Append(*changelog, records("unit 0"))])
    late = script.next(Api.END_TXN)
    script.add(Rule(late, Fault.HOLD_REQUEST, hold_s=LATE_S, until=WHEN_TOLD))
    with pytest.raises(CommitUnknown):
        await owner.commit([Append(*changelog, records("unit 1")), Append(*outputs, records("output 1"))])
    await owner.close()

    heir = await log.writer(task)
    assert await committed(log, changelog) == ["unit 0"], "the unit of unknown outcome was not committed"
    heirs = script.next(Api.END_TXN)
    script.add(Rule(heirs, Fault.HOLD_REQUEST, hold_s=LATE_S, until=Point(Api.CONNECT, -1)))
    closing = Closing(*outputs, lambda _: records("closing 1"))
    committing = asyncio.create_task(
        heir.commit([Append(*changelog, records("unit 1 again"))], closing), name="heir"
    )
    await until_open(log, changelog)
    script.note_sent(WHEN_TOLD)
    await script.answered(late)
    reached = (await log.offsets([changelog]))[changelog]
    assert reached.stable < reached.end, "the later transaction is still open"
    await script.came(heirs)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await heir.close()

    last = await log.writer(task)
    assert await committed(log, changelog) == ["unit 0"]
    await last.commit([Append(*changelog, records("unit 1 at last")), Append(*outputs, records("output"))])
    assert await committed(log, changelog) == ["unit 0", "unit 1 at last"]
    assert await committed(log, outputs) == ["output"]
    await last.close()


@pytest.mark.parametrize("scheme", Scheme)
async def test_an_end_of_a_transaction_from_long_ago_is_refused_where_each_has_an_epoch(
    proxy: Proxy, changelog: TopicPartition, scheme: Scheme
) -> None:
    """The bytes of an old EndTxn come again: with one epoch for all they commit half of a later unit."""
    log = KafkaLog(IMPATIENT, address=proxy.address, newest_scheme=scheme)
    await log.open()
    script = proxy.script
    script.add(Rule(Point(Api.END_TXN, 1), Fault.HOLD_REPLY, hold_s=0.01))
    script.add(Rule(Point(Api.END_TXN, 2), Fault.HOLD_REQUEST, hold_s=LATE_S, until=WHEN_TOLD))
    writer = await log.writer(unique("task"))
    await writer.commit([Append(*changelog, records("unit 0"))])
    committing = asyncio.create_task(writer.commit([Append(*changelog, records("unit 1"))]), name="unit 1")
    await script.came(Point(Api.END_TXN, 2))
    code = end_code(await proxy.send_raw(script.requests[Point(Api.END_TXN, 1)]), scheme)
    if scheme is Scheme.EPOCH_PER_TRANSACTION:
        assert code == Code.PRODUCER_FENCED
        assert await committed(log, changelog, to_stable=True) == ["unit 0"]
    else:
        assert code == Code.NONE, "the hole that the newer scheme closes"
    script.note_sent(WHEN_TOLD)
    await committing
    assert await committed(log, changelog) == ["unit 0", "unit 1"]
    await writer.close()
    await log.close()


def end_code(answer: bytes, scheme: Scheme) -> Code:
    """The error code of a reply to EndTxn."""
    head = 4 + (scheme is Scheme.EPOCH_PER_TRANSACTION)
    return Code(int.from_bytes(answer[head + 4 : head + 6], "big", signed=True))


@pytest.mark.parametrize(
    ("scheme", "requests"), [(Scheme.EPOCH_PER_OWNER, 3), (Scheme.EPOCH_PER_TRANSACTION, 2)]
)
async def test_a_unit_takes_three_round_trips_or_two_where_producing_adds_the_partitions(
    proxy: Proxy, changelog: TopicPartition, outputs: TopicPartition, scheme: Scheme, requests: int
) -> None:
    log = KafkaLog(IMPATIENT, address=proxy.address, newest_scheme=scheme)
    await log.open()
    writer = await log.writer(unique("task"))
    unit = [Append(*changelog, records("row", "position")), Append(*outputs, records("output"))]
    await writer.commit(unit)
    before = [proxy.script.count(api) for api in TRANSACTION]
    await asyncio.sleep(0.2)  # the markers of the first unit are written meanwhile
    await writer.commit(unit)
    after = [proxy.script.count(api) for api in TRANSACTION]
    assert sum(after) - sum(before) == requests
    await writer.close()
    await log.close()


async def test_a_coordinator_that_moves_before_the_end_is_found_again(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition
) -> None:
    writer = await log.writer(unique("task"))
    script = proxy.script
    for code in (Code.NOT_COORDINATOR, Code.COORDINATOR_LOADING, Code.COORDINATOR_NOT_AVAILABLE):
        searches = script.count(Api.FIND_COORDINATOR)
        script.add(Rule(script.next(Api.END_TXN), Fault.REFUSE, code=code))
        await writer.commit([Append(*changelog, records(code.name))])
        assert script.count(Api.FIND_COORDINATOR) == searches + 1
    assert await committed(log, changelog) == [
        "NOT_COORDINATOR",
        "COORDINATOR_LOADING",
        "COORDINATOR_NOT_AVAILABLE",
    ]
    await writer.close()


@pytest.mark.parametrize("code", [Code.INVALID_TXN_STATE, Code.PRODUCER_FENCED, Code.REQUEST_TIMED_OUT])
async def test_a_take_over_that_races_with_the_end_of_a_transaction_asks_again(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition, code: Code
) -> None:
    """The coordinator could not abort what the owner had open, for the owner has just ended it."""
    task = unique("task")
    owner = await log.writer(task)
    await owner.commit([Append(*changelog, records("owner"))])
    proxy.script.add(Rule(proxy.script.next(Api.INIT_PRODUCER_ID), Fault.REFUSE, code=code))
    heir = await log.writer(task)
    await heir.commit([Append(*changelog, records("heir"))])
    assert await committed(log, changelog) == ["owner", "heir"]
    await asyncio.gather(owner.close(), heir.close())


async def test_a_broker_that_its_controller_has_not_heard_of_is_asked_again(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition
) -> None:
    """A starved broker names no broker at all, not even itself; that was an IndexError."""
    proxy.script.add(Rule(proxy.script.next(Api.METADATA), Fault.MISTELL))
    writer = await log.writer(unique("task"))
    await writer.commit([Append(*changelog, records("unit 0"))])
    assert await committed(log, changelog) == ["unit 0"]
    await writer.close()


async def test_a_partition_whose_leader_moved_is_read_on_while_the_others_are_paused(
    proxy: Proxy, log: KafkaLog
) -> None:
    """The poll of the leader waited for a paused partition to go on, and never saw the one that came back."""
    topic = unique("orders")
    await log.provision([TopicSpec(name=topic, partitions=2)])
    writer = await log.writer(unique("task"))
    await writer.commit([Append(topic, 1, records("a"))])
    first = proxy.script.next(Api.FETCH)
    proxy.script.add(Rule(first, Fault.REFUSE, code=Code.NOT_LEADER))

    reader = await log.reader({TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0})
    reader.pause([TopicPartition(topic, 0)])
    async with asyncio.timeout(30):
        (chunk,) = await reader.fetch(records_max=10, bytes_max=1 << 20)

    assert chunk.values == [b"a"]
    await asyncio.gather(writer.close(), reader.close())


@pytest.mark.timeout(300)
async def test_a_cluster_that_ends_transactions_the_older_way_is_spoken_to_that_way() -> None:
    require_kafka()
    broker = KafkaBroker(lib=kafka_lib(), transaction_version=0)
    await asyncio.to_thread(broker.start)
    try:
        async with Proxy(broker.address) as proxy:
            log = KafkaLog(IMPATIENT, address=proxy.address)
            await log.open()
            place = TopicPartition(unique("changelog"), 0)
            await log.provision([TopicSpec(name=place.topic, partitions=1)])
            task = unique("task")
            writer = await log.writer(task)
            await writer.commit([Append(*place, records("unit 0"))])
            await asyncio.sleep(0.2)  # so that a newer cluster would be spoken to another way
            await writer.commit([Append(*place, records("unit 1"))])
            assert proxy.script.count(Api.ADD_PARTITIONS) >= 2
            heir = await log.writer(task)
            with pytest.raises(Fenced):
                await writer.commit([Append(*place, records("zombie"))])
            assert await committed(log, place) == ["unit 0", "unit 1"]
            await asyncio.gather(writer.close(), heir.close())
            await log.close()
    finally:
        await asyncio.to_thread(broker.stop)


async def test_a_batch_that_fails_inside_a_transaction_leaves_no_position_and_nothing_torn(
    log: KafkaLog, kafka_broker: KafkaBroker, changelog: TopicPartition, outputs: TopicPartition
) -> None:
    """The limit of the outputs was lowered behind the writer's back: the broker refuses that batch alone."""
    task = unique("task")
    writer = await log.writer(task)
    await writer.commit([Append(*changelog, records("position 0")), Append(*outputs, records("output 0"))])
    await lower_limit(kafka_broker, outputs.topic)
    with pytest.raises(RecordTooLarge):
        await writer.commit(
            [Append(*changelog, records("row", "position 1")), Append(*outputs, records("x" * 9_000))]
        )
    await writer.close()

    heir = await log.writer(task)
    assert await committed(log, changelog) == ["position 0"]
    assert await committed(log, outputs) == ["output 0"]
    await heir.commit([Append(*changelog, records("position 1")), Append(*outputs, records("small"))])
    assert await committed(log, changelog) == ["position 0", "position 1"]
    assert await committed(log, outputs) == ["output 0", "small"]
    await heir.close()


async def lower_limit(broker: KafkaBroker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    configs = {"max.message.bytes": "5000"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    await admin.close()


async def test_an_end_of_transaction_without_an_answer_is_sent_once(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition
) -> None:
    task = unique("task")
    writer = await log.writer(task)
    proxy.script.add(Rule(Point(Api.END_TXN, 1), Fault.CUT_REPLY))
    with pytest.raises(CommitUnknown):
        await writer.commit([Append(*changelog, records("unit 0"))])
    await writer.close()
    heir = await log.writer(task)
    assert proxy.script.count(Api.END_TXN) == 1
    assert await committed(log, changelog) == ["unit 0"], "it was carried out, and nobody heard of it"
    await heir.close()


async def test_a_batch_whose_answer_was_lost_is_in_the_log_once(
    proxy: Proxy, log: KafkaLog, changelog: TopicPartition
) -> None:
    writer = await log.writer(unique("task"))
    for fault in (Fault.CUT_REPLY, Fault.CUT_AFTER_REQUEST, Fault.SWALLOW_REPLIES):
        proxy.script.add(Rule(proxy.script.next(Api.PRODUCE), fault))
        if fault is Fault.SWALLOW_REPLIES:
            with pytest.raises(Unavailable):
                await writer.commit([Append(*changelog, records("never"))])
            break
        await writer.commit([Append(*changelog, records(fault.name))])
    assert await committed(log, changelog) == ["CUT_REPLY", "CUT_AFTER_REQUEST"]
    await writer.close()
