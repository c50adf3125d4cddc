"""What only the simulated log has: groups of several workers, and hands on the cluster itself."""

import asyncio

import pytest

from headrace.errors import Fenced, LogError, OffsetOutOfRange, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Log, Member, Outgoing, TopicSpec
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog

CHANGELOG = "loyalty.main.changelog"
ORDERS = TopicPartition("orders", 0)


def worker(instance: str) -> Member:
    return Member(app="loyalty", instance=instance, partitions={CHANGELOG: 4})


def row(key: str, value: str) -> Outgoing:
    return (key.encode(), value.encode(), (), 0)


async def with_orders(cluster: SimulatedCluster, *records: Outgoing) -> Log:
    log = SimulatedLog(cluster)
    await log.provision([TopicSpec(name="orders", partitions=1)])
    writer = await log.writer("till")
    for record in records:
        await writer.commit([Append("orders", 0, [record])])
    return log


async def test_workers_of_an_app_share_its_partitions() -> None:
    cluster = SimulatedCluster()
    one = await SimulatedLog(cluster).join(worker("one"))
    alone = await one.next(-1)
    waiting = asyncio.create_task(one.next(alone.generation), name="waiting")
    two = await SimulatedLog(cluster).join(worker("two"))
    shared = await waiting

    assert alone.partitions == {CHANGELOG: frozenset(range(4))}
    assert shared.generation > alone.generation
    assert shared.partitions == {CHANGELOG: frozenset({0, 1})}
    owners = {CHANGELOG: {0: "one", 1: "one", 2: "two", 3: "two"}}
    assert await two.next(-1) == (shared.generation, {CHANGELOG: frozenset({2, 3})}, owners)
    assert shared.owners == owners


async def test_a_worker_that_leaves_hands_its_partitions_to_the_others() -> None:
    cluster = SimulatedCluster()
    one = await SimulatedLog(cluster).join(worker("one"))
    two = await SimulatedLog(cluster).join(worker("two"))
    await one.close()

    assert (await two.confirm()).partitions == {CHANGELOG: frozenset(range(4))}
    with pytest.raises(LogError, match="closed"):
        await one.next(-1)


async def test_a_worker_that_is_put_out_hears_of_it() -> None:
    cluster = SimulatedCluster()
    zombie = await SimulatedLog(cluster).join(worker("zombie"))
    heir = await SimulatedLog(cluster).join(worker("heir"))
    waiting = asyncio.create_task(zombie.next(99), name="waiting")
    await asyncio.sleep(0)
    cluster.group("loyalty").expel("zombie")

    with pytest.raises(Fenced):
        await waiting
    with pytest.raises(Fenced):
        await zombie.confirm()
    await zombie.close()
    assert (await heir.confirm()).partitions == {CHANGELOG: frozenset(range(4))}


async def test_a_worker_that_comes_back_under_its_name_replaces_its_older_self() -> None:
    cluster = SimulatedCluster()
    older = await SimulatedLog(cluster).join(worker("one"))
    newer = await SimulatedLog(cluster).join(worker("one"))

    with pytest.raises(Fenced):
        await older.confirm()
    assert (await newer.confirm()).partitions == {CHANGELOG: frozenset(range(4))}


async def test_markers_take_offsets_that_no_record_has() -> None:
    log = await with_orders(SimulatedCluster(), row("a", "1"), row("b", "1"))
    reader = await log.reader({ORDERS: 0})
    (chunk,) = await reader.fetch(records_max=10, bytes_max=1_000)

    assert list(chunk.offsets) == [0, 2]
    assert chunk.offset_next == chunk.high_watermark == 4


async def test_a_position_in_front_of_a_marker_moves_on_without_a_record() -> None:
    log = await with_orders(SimulatedCluster(), row("a", "1"))
    reader = await log.reader({ORDERS: 1})
    (chunk,) = await reader.fetch(records_max=10, bytes_max=1_000)

    assert (len(chunk), chunk.offset_next) == (0, 2)


async def test_compaction_leaves_the_last_record_of_each_key() -> None:
    cluster = SimulatedCluster()
    log = await with_orders(cluster, row("a", "1"), row("b", "1"), row("a", "2"))
    cluster.compact("orders")
    reader = await log.reader({ORDERS: 0})
    (chunk,) = await reader.fetch(records_max=10, bytes_max=1_000)

    assert list(zip(chunk.offsets, chunk.values, strict=True)) == [(2, b"1"), (4, b"2")]


async def test_a_trimmed_position_is_out_of_range() -> None:
    cluster = SimulatedCluster()
    log = await with_orders(cluster, row("a", "1"), row("b", "1"))
    reader = await log.reader({ORDERS: 0})
    cluster.trim(ORDERS, 2)

    with pytest.raises(OffsetOutOfRange):
        await reader.fetch(records_max=10, bytes_max=1_000)
    assert (await log.offsets([ORDERS]))[ORDERS] == (2, 4, 4)


async def test_a_reader_of_a_deleted_topic_is_told() -> None:
    cluster = SimulatedCluster()
    log = await with_orders(cluster)
    reader = await log.reader({ORDERS: 0})
    waiting = asyncio.create_task(reader.fetch(records_max=10, bytes_max=1_000), name="waiting")
    await asyncio.sleep(0)
    cluster.delete("orders")

    with pytest.raises(TopicMismatch):
        await waiting


async def test_the_same_story_gives_the_same_cluster() -> None:
    async def story() -> tuple[object, ...]:
        log = await with_orders(SimulatedCluster(), row("a", "1"))
        return log.cluster_id, await log.topics(), await log.offsets([ORDERS])

    assert await story() == await story()


async def test_nobody_reads_beyond_an_open_transaction_until_it_is_ended() -> None:
    cluster = SimulatedCluster()
    log = await with_orders(cluster, row("a", "1"))
    transaction = cluster.transaction("shop", cluster.begin_epoch("shop"))
    transaction.append(Append("orders", 0, [row("b", "2"), row("c", "3")]))
    till = await log.writer("till")
    await till.commit([Append("orders", 0, [row("d", "4")])])
    held = (await log.offsets([ORDERS]))[ORDERS]
    reader = await log.reader({ORDERS: 0})
    (seen,) = await reader.fetch(records_max=10, bytes_max=1000)
    assert (seen.values, seen.offset_next, held) == ([b"1"], 2, (0, 6, 2))
    assert transaction.commit() == {ORDERS: 4}
    (seen,) = await reader.fetch(records_max=10, bytes_max=1000)
    assert (seen.offsets, seen.values) == ([2, 3, 4], [b"2", b"3", b"4"])
    assert seen.offset_next == (await log.offsets([ORDERS]))[ORDERS].stable == 7


async def test_the_next_epoch_aborts_what_an_older_one_left_open_and_its_offsets_are_gone() -> None:
    cluster = SimulatedCluster()
    log = await with_orders(cluster, row("a", "1"))
    transaction = cluster.transaction("shop", cluster.begin_epoch("shop"))
    transaction.append(Append("orders", 0, [row("b", "2")]))
    await log.writer("shop")
    with pytest.raises(Fenced):
        transaction.commit()
    reader = await log.reader({ORDERS: 0})
    (seen,) = await reader.fetch(records_max=10, bytes_max=1000)
    assert (seen.values, seen.offset_next) == ([b"1"], 4)
