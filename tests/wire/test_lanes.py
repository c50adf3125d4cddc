"""What writers that share connections do to each other: nothing."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from headrace.errors import Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.port import Append, Outgoing, TopicSpec, Writer
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.wire.frames import Api
from tests.wire.proxy import Proxy
from tests.wire.script import Fault, Rule

pytestmark = pytest.mark.kafka

WRITERS = 64
ADMIN = 1
TIMEOUT_S = 4.0


def unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def record(value: str) -> list[Outgoing]:
    return [(b"k", value.encode(), (), int(time.time() * 1000))]


@pytest.fixture
async def proxy(kafka_broker: KafkaBroker) -> AsyncIterator[Proxy]:
    async with Proxy(kafka_broker.address) as proxy:
        yield proxy


async def opened(proxy: Proxy, lanes_max: int, timeout_s: float = 30.0) -> KafkaLog:
    log = KafkaLog(Settings(request_timeout_s=timeout_s), address=proxy.address, lanes_max=lanes_max)
    await log.open()
    return log


async def new_topic(log: KafkaLog, partitions: int) -> str:
    name = unique("facts")
    await log.provision([TopicSpec(name=name, partitions=partitions)])
    return name


async def pair(log: KafkaLog) -> tuple[tuple[Writer, TopicPartition], tuple[Writer, TopicPartition]]:
    """Two writers on one lane, with a partition each, that have written once."""
    topic = await new_topic(log, 2)
    found = []
    for partition in range(2):
        writer = await log.writer(unique("task"))
        await writer.commit([Append(topic, partition, record("first"))])
        found.append((writer, TopicPartition(topic, partition)))
    return found[0], found[1]


@pytest.mark.parametrize(("lanes_max", "connections"), [(WRITERS, WRITERS), (8, 8)])
async def test_sixty_four_tasks_need_eight_connections_to_a_broker_instead_of_one_each(
    proxy: Proxy, lanes_max: int, connections: int
) -> None:
    log = await opened(proxy, lanes_max)
    topic = await new_topic(log, WRITERS)
    writers = await asyncio.gather(*(log.writer(unique("task")) for _ in range(WRITERS)))
    commits = (each.commit([Append(topic, n, record("x"))]) for n, each in enumerate(writers))
    ends = await asyncio.gather(*commits)
    assert [dict(end) for end in ends] == [{TopicPartition(topic, n): 1} for n in range(WRITERS)]
    assert proxy.open_connections == ADMIN + connections
    await asyncio.gather(*(writer.close() for writer in writers))
    await log.close()


async def test_a_new_writer_takes_the_lane_that_a_closed_one_left(proxy: Proxy) -> None:
    log = await opened(proxy, 8)
    for _ in range(10):
        writers = await asyncio.gather(*(log.writer(unique("task")) for _ in range(2)))
        await asyncio.gather(*(writer.close() for writer in writers))
    assert proxy.connections == ADMIN + 2
    await log.close()


async def test_a_writer_that_is_cancelled_and_closed_does_not_cut_its_neighbour(proxy: Proxy) -> None:
    log = await opened(proxy, 1)
    (one, here), (other, there) = await pair(log)
    proxy.script.add(Rule(proxy.script.next(Api.PRODUCE), Fault.HOLD_REPLY, hold_s=0.5))
    given_up = asyncio.create_task(one.commit([Append(*here, record("given up"))]), name="given up")
    await proxy.script.sent(proxy.script.next(Api.PRODUCE))
    committing = asyncio.create_task(other.commit([Append(*there, record("second"))]), name="neighbour")
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await one.close()
    assert await committing == {there: 3}, "the marker of its first transaction is between"
    assert await other.commit([Append(*there, record("third"))]) == {there: 5}
    await other.close()
    await log.close()


async def test_a_half_open_connection_is_left_by_whoever_shares_it(proxy: Proxy) -> None:
    log = await opened(proxy, 1, TIMEOUT_S)
    (one, here), (other, there) = await pair(log)
    before = proxy.connections
    proxy.script.add(Rule(proxy.script.next(Api.PRODUCE), Fault.SWALLOW_REPLIES))
    with pytest.raises(Unavailable):
        await one.commit([Append(*here, record("unanswered"))])
    await one.close()
    assert await other.commit([Append(*there, record("second"))]) == {there: 3}
    assert proxy.connections == before + 1
    await other.close()
    await log.close()
