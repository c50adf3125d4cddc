"""How events become units: bounded, shown whole, and never at the expense of the loop."""

import asyncio

import pytest

import headrace
from headrace import TopicPartition
from headrace.log.simulated.log import SimulatedLog
from tests.flow.mortal import LastingEngine
from tests.flow.shop import Bought, by_key, declare_shop, fold, open_shop, purchases
from tests.service import quick, running

BUYS = TopicPartition("buys", 0)


async def test_a_unit_holds_no_more_records_than_its_bound() -> None:
    shop, events = open_shop(partitions=1), purchases(100)
    async with running(shop.app, settings=quick(unit_records_max=10)) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.runtime.figures_of_flow.units >= 10
        assert service.table("balances").rows() == fold(events)


async def test_the_time_bound_leaves_the_rest_to_the_next_unit_for_every_agent_alike() -> None:
    shop, events = open_shop(partitions=1), purchases(300)
    visits = shop.app.Table("visits", key_type=int, default=int)

    @shop.app.agent(shop.buys)
    async def count(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            visits[event.who] += 1

    async with running(shop.app, settings=quick(unit_time_max_s=0.0)) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.runtime.figures_of_flow.units > 1
        rows = service.table("balances").rows()
        assert rows == fold(events)
        assert service.table("visits").rows() == {who: row.visits for who, row in rows.items()}


async def test_a_cache_smaller_than_the_table_changes_no_result() -> None:
    shop, events = open_shop(partitions=1), purchases(2_000, people=300)
    async with running(shop.app, settings=quick(cache_rows_max=2, unit_records_max=50)) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)


async def test_readers_see_all_rows_of_a_unit_with_its_position_or_none_while_it_is_applied() -> None:
    shop = declare_shop(partitions=1)
    wide = shop.app.Table("wide", key_type=int, default=int)

    @shop.app.agent(shop.buys)
    async def paint(events: headrace.Stream[Bought]) -> None:
        async for delivery in events.events():
            for key in range(3_000):
                wide[key] = delivery.offset

    async with running(shop.app) as service:
        painted, seen = service.table("wide"), set[int]()

        async def look() -> None:
            while True:
                if service.position().get(BUYS, 0):
                    rows = {painted[key] for key in (0, 999, 1_000, 1_500, 2_999)}
                    assert len(rows) == 1, "a reader saw half a unit"
                    (offset,) = rows
                    # Between the row's event and its successor lies at most the log's own marker.
                    assert offset < service.position()[BUYS] <= offset + 2
                    seen.add(offset)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as crew:
            looking = crew.create_task(look(), name="reader")
            for event in purchases(6):
                await service.send(shop.buys, event, key=event.who)
                await service.until_applied()
            looking.cancel()
    assert len(seen) == 6


async def test_other_work_of_the_loop_gets_its_turn_while_a_large_unit_runs_and_is_applied() -> None:
    shop, events, turns = open_shop(partitions=1), purchases(20_000, people=20_000), 0
    engine = LastingEngine()

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    one_unit = quick(unit_time_max_s=60.0, unit_records_max=100_000)
    async with running(shop.app, settings=one_unit, engine=engine) as service:
        async with asyncio.TaskGroup() as crew:
            await service.send_all(shop.buys, by_key(events))
            turning = crew.create_task(turn(), name="turns")
            await service.until_applied()
            turning.cancel()
    # Twenty write batches alone make twenty turns; running and encoding add theirs.
    assert turns > 20


async def test_two_runs_of_one_app_in_one_process_follow_each_other() -> None:
    shop, log, events = open_shop(), SimulatedLog(), purchases(60)
    for start in range(0, 60, 20):
        async with running(shop.app, log=log) as service:
            await service.send_all(shop.buys, by_key(events[start : start + 20]))
            await service.until_applied()
            assert service.table("balances").rows() == fold(events[: start + 20])


@pytest.mark.parametrize("bound", [1, 3])
async def test_two_workers_share_the_partitions_and_one_takes_over_from_the_other(bound: int) -> None:
    shop, events = open_shop(partitions=4), purchases(200)
    cluster = SimulatedLog().cluster
    one_name, other_name = quick(instance="one", unit_records_max=bound), quick(instance="other")
    async with running(shop.app, log=SimulatedLog(cluster), settings=one_name) as one:
        await one.send_all(shop.buys, by_key(events[:100]))
        async with running(shop.app, log=SimulatedLog(cluster), settings=other_name) as other:
            await other.send_all(shop.buys, by_key(events[100:]))
            await one.until_applied()
            await other.until_applied()
            await one.crash()
            late = [Bought(who, 10) for who in range(40)]
            await other.send_all(shop.buys, by_key(late))
            receipts = [TopicPartition("receipts", partition) for partition in range(2)]
            reader = await other.log.reader(dict.fromkeys(receipts, 0))
            found = 0
            while found < 20 + len(late):
                found += sum(map(len, await reader.fetch(records_max=1_000, bytes_max=2**20)))
            assert len(other.runtime.views()) == 4
            await other.until_applied()
            assert other.table("balances").rows() == fold(events + late)
            assert len(await other.outputs(shop.receipts)) == found
