"""After a crash, wherever it struck, rows and outputs are those of the events, each once."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
from headrace import Settings, TopicPartition, errors
from headrace.clock import SYSTEM_CLOCK
from headrace.flow.group import form_groups
from headrace.flow.restore import APPLY_ROWS_MAX
from headrace.flow.takeover import take_over
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from headrace.tables.changelog import (
    POSITION_KEY,
    InputPosition,
    PositionRecord,
    StoreMark,
    encode_mark,
    encode_position,
)
from headrace.tables.view import PartitionView, ViewState
from tests.flow.mortal import LastingEngine, MortalCluster
from tests.flow.shop import Bought, Shop, by_key, declare_shop, fold, open_shop, purchases
from tests.service import Service, committed, quick, running

CHANGELOG = TopicPartition("shop.main.changelog", 0)


@dataclass(frozen=True)
class Life:
    """One run of the worker: what is sent to it, and what ends it."""

    events: list[Bought]
    cut_after_hops: int | None
    store_fails_after_writes: int | None


lives = st.builds(
    Life,
    st.lists(st.builds(Bought, st.integers(0, 5), st.integers(0, 30)), max_size=8),
    st.none() | st.integers(0, 160),
    st.none() | st.integers(0, 12),
)


async def live(
    shop: Shop,
    cluster: MortalCluster,
    engine: LastingEngine,
    life: Life,
    configured: Settings | None = None,
) -> None:
    """Run a worker until its events are applied, or until what its life ends with."""
    if life.cut_after_hops is not None:
        cluster.cut_after(life.cut_after_hops)
    if life.store_fails_after_writes is not None:
        engine.fail_after(life.store_fails_after_writes)
    log = SimulatedLog(cluster)
    runtime = shop.app.current = Runtime(shop.app.declarations, configured or quick(), log=log, engine=engine)
    service = Service(shop.app, runtime, log)

    async def feed() -> None:
        await service.until_ready()
        for event in life.events:
            await service.send(shop.buys, event, key=event.who)
        await service.until_applied()

    feeding = asyncio.create_task(feed(), name="feed")
    dying = asyncio.create_task(cluster.died.wait(), name="death")
    await asyncio.wait({feeding, dying}, return_when=asyncio.FIRST_COMPLETED)
    await service.crash()
    feeding.cancel()
    dying.cancel()
    for outcome in await asyncio.gather(feeding, return_exceptions=True):
        ended_by = (errors.Unavailable, errors.CommitUnknown, OSError, asyncio.CancelledError)
        assert outcome is None or isinstance(outcome, ended_by), outcome
    cluster.mend()
    engine.mend()


async def survives(story: list[Life]) -> None:
    """Live these lives one after the other; then compare what is there with what was sent."""
    shop, cluster, engine = open_shop(partitions=2), MortalCluster(), LastingEngine()
    for life in story:
        await live(shop, cluster, engine, life)
    # Half of the stories lose their disk at the end: the changelog alone must tell the same.
    engine = engine if len(story) % 2 else LastingEngine()
    async with running(shop.app, log=SimulatedLog(cluster), engine=engine) as service:
        await service.until_applied()
        events = [delivery.value for delivery in await service.outputs(shop.buys)]
        assert service.table("balances").rows() == fold(events)
        receipts = await service.outputs(shop.receipts)
    assert Counter(d.value for d in receipts) == Counter(e for e in events if e.cents % 10 == 0)
    assert len({receipt.event_id for receipt in receipts}) == len(receipts)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(lives, min_size=1, max_size=4))
def test_wherever_crashes_strike_tables_and_outputs_are_the_fold_of_the_log(story: list[Life]) -> None:
    asyncio.run(survives(story))


async def test_a_unit_that_was_committed_and_not_applied_is_repaired_when_the_task_is_taken_over() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    events = purchases(30)
    async with running(shop.app, log=log, engine=engine) as service:
        engine.fail_after(0)
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        await service.send(shop.buys, events[0], key=events[0].who)
        await service.until_applied()
        assert service.table("balances").rows() == fold([*events, events[0]])
        assert service.runtime.figures_of_flow.failures == {"StoreUnwritable": 1}
    async with running(shop.app, log=log, engine=engine) as service:
        assert service.table("balances").rows() == fold([*events, events[0]])


async def test_a_unit_that_was_half_applied_is_repaired_before_anything_is_served() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    events = purchases(3_500, people=3_500)
    async with running(shop.app, log=log, engine=engine, settings=quick(unit_time_max_s=60.0)) as service:
        engine.fail_after(2)
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        await service.send(shop.buys, events[0], key=events[0].who)
        await service.until(lambda: service.runtime.figures_of_flow.takeovers == 2)
        await service.until_applied()
        assert service.table("balances").rows() == fold([*events, events[0]])


async def test_a_store_that_was_deleted_is_rebuilt_from_the_changelog() -> None:
    shop, log, engine = open_shop(partitions=2), SimulatedLog(), LastingEngine()
    events = purchases(100)
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        position = service.position()
    engine.drop("main", 1)
    log.cluster.compact("shop.main.changelog")
    async with running(shop.app, log=log, engine=engine) as service:
        assert service.table("balances").rows() == fold(events)
        await service.until_applied()
        assert service.position().covers(position)
        assert service.table("balances").rows() == fold(events)


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
async def test_on_the_embedded_log_a_crash_and_a_restart_lose_and_repeat_nothing(
    store: str, tmp_path: Path
) -> None:
    shop, events = open_shop(), purchases(300)
    files = quick(store=store, data=str(tmp_path / "data"), instance="one")
    async with running(shop.app, log=EmbeddedLog(tmp_path / "log.db"), settings=files) as service:
        await service.send_all(shop.buys, by_key(events[:200]))
        await service.crash()
    async with running(shop.app, log=EmbeddedLog(tmp_path / "log.db"), settings=files) as service:
        await service.send_all(shop.buys, by_key(events[200:]))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        assert len(await service.outputs(shop.receipts)) == 30


async def test_an_input_that_was_recreated_is_refused_by_name() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send(shop.buys, Bought(1, 1), key=1)
        await service.until_applied()
    log.cluster.delete("buys")
    with pytest.raises(errors.TopicMismatch, match=r"input was recreated .*topic buys"):
        async with running(shop.app, log=log):
            pass


async def test_a_changelog_that_was_recreated_is_refused_by_name() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send(shop.buys, Bought(1, 1), key=1)
        await service.until_applied()
    log.cluster.delete("shop.main.changelog")
    with pytest.raises(errors.TopicMismatch, match="changelog was recreated"):
        async with running(shop.app, log=log, engine=engine):
            pass


async def test_an_input_whose_unread_events_were_deleted_is_refused_and_not_skipped() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(purchases(5)))
        await service.until_applied()
    async with running(shop.app, log=log) as service:
        await service.crash()
    held = (await log.offsets([TopicPartition("buys", 0)]))[TopicPartition("buys", 0)]
    writer = await log.writer("elsewhere")
    await writer.commit([Append("buys", 0, [(b"1", b"{}", (), 0)] * 3)])
    log.cluster.trim(TopicPartition("buys", 0), held.end + 2)
    with pytest.raises(errors.OffsetOutOfRange, match="the tables stand at offset"):
        async with running(shop.app, log=log):
            pass


async def test_a_store_that_is_ahead_of_its_changelog_is_refused() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send(shop.buys, Bought(1, 1), key=1)
        await service.until_applied()
        changelog_id = log.cluster.topics[CHANGELOG.topic].info.topic_id
    store = engine.open("main", 0)
    store.write([], encode_mark(StoreMark(changelog_id, 10_000, None)))
    store.close()
    with pytest.raises(errors.OffsetOutOfRange, match="the store stands at changelog offset 10000"):
        async with running(shop.app, log=log, engine=engine):
            pass


async def test_a_changelog_whose_unit_numbers_fall_is_refused_as_forked() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        for event in purchases(3):
            await service.send(shop.buys, event, key=event.who)
            await service.until_applied()
        buys_id = log.cluster.topics["buys"].info.topic_id
    forked = encode_position(PositionRecord(1, {"buys": InputPosition(buys_id, 1)}))
    writer = await log.writer("a second owner")
    await writer.commit([Append(*CHANGELOG, [(POSITION_KEY, forked, (), 0)])])
    with pytest.raises(errors.ForkedChangelog, match="unit 1 follows unit 3"):
        async with running(shop.app, log=log):
            pass


async def test_a_foreign_record_in_a_changelog_is_refused() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.append(CHANGELOG.topic, b"\0who", b"knows")
    with pytest.raises(errors.ForkedChangelog, match="no row has"):
        async with running(shop.app, log=log):
            pass


async def test_a_store_that_is_being_restored_hides_its_position_until_the_end_is_reached() -> None:
    shop, cluster = open_shop(partitions=1), MortalCluster()
    log, engine, events = SimulatedLog(cluster), LastingEngine(), purchases(8_000, people=8_000)
    async with running(shop.app, log=log, settings=quick(unit_time_max_s=60.0)) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
    engine.fail_after(5)
    view, declared = PartitionView("main", 0), shop.app.declarations
    topics = await log.describe([*declared.topics, CHANGELOG.topic])
    (group,) = form_groups("shop", declared.agents, list(declared.tables.values()), topics, frozenset())
    with pytest.raises(OSError, match="no space left"):
        await take_over(
            "shop", group, 0, log=log, engine=engine, topics=topics, view=view, clock=SYSTEM_CLOCK
        )
    assert view.state is ViewState.RESTORING
    assert not view.position
    store = engine.open("main", 0)
    assert store.rows_estimate() == 4 * APPLY_ROWS_MAX
    assert b'"is_restoring":true' in (store.mark or b"")
    store.close()
    async with running(shop.app, log=log, engine=engine) as service:
        assert service.table("balances").rows() == fold(events)


async def test_a_new_group_starts_at_the_end_of_an_input_that_says_so_and_stays_there() -> None:
    shop, log = open_shop(partitions=1, buys={"start": "latest"}), SimulatedLog()
    other = declare_shop(partitions=1)

    @other.app.agent(other.buys)
    async def ignore(events: headrace.Stream[Bought]) -> None:
        async for _ in events:
            pass

    async with running(other.app, log=log) as service:
        await service.send_all(other.buys, by_key(purchases(10)))
    log.cluster.delete(CHANGELOG.topic)
    async with running(shop.app, log=log) as service:
        await service.crash()
    writer = await log.writer("elsewhere")
    raw = shop.buys.values.encode(Bought(1, 7))
    await writer.commit([Append("buys", 0, [(b"1", raw, (), 0)])])
    async with running(shop.app, log=log) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold([Bought(1, 7)])
        assert len(await committed(log, shop.buys)) == 11
