"""Who is fenced asks the group before it opens again; who is not the owner gives up."""

import asyncio

import pytest

import headrace
from headrace import errors
from headrace.flow.figures import FlowFigures
from headrace.flow.group import Group, form_groups
from headrace.flow.keeper import Keeper, KeeperState, tasks_of
from headrace.flow.takeover import transactional_id
from headrace.flow.worksite import Worksite
from headrace.log.port import Append, Assignment, Membership
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import ViewState
from tests.flow.shop import Bought, Shop, by_key, fold, open_shop, purchases
from tests.service import append, quick, running


async def test_a_fenced_task_that_is_still_ours_goes_on_where_its_rows_stand() -> None:
    shop, log, events = open_shop(partitions=1), SimulatedLog(), purchases(60)
    async with running(shop.app, log=log) as service:
        for event in events:
            if event.cents % 20 == 10:
                await log.writer(transactional_id("shop", "main", 0))
            await service.send(shop.buys, event, key=event.who)
            await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        assert len(await service.outputs(shop.receipts)) == 6
        assert service.runtime.figures_of_flow.failures == {"Fenced": 3}


class Elsewhere:
    """A group in which this worker owns nothing any more."""

    async def next(self, after: int) -> Assignment:
        """Nothing is ours."""
        return await self.confirm()

    async def confirm(self) -> Assignment:
        """Nothing is ours."""
        return Assignment(2, {"shop.main.changelog": frozenset()})

    async def close(self) -> None:
        """Leave."""


async def kept(shop: Shop, log: SimulatedLog, membership: Membership) -> tuple[Keeper, asyncio.Task[None]]:
    """A keeper of the shop's only partition, which is served."""
    async with running(shop.app, log=log):
        pass
    site, group = await worksite(shop, log)
    keeper = Keeper(site, group, 0, membership, tasks_of(site, group, 0))
    run = asyncio.create_task(keeper.run(), name="keeper")
    await keeper.view.served.wait()
    return keeper, run


async def worksite(shop: Shop, log: SimulatedLog) -> tuple[Worksite, Group]:
    """Where the shop's tasks are run, once its topics are there."""
    declared = shop.app.declarations
    topics = await log.describe(["buys", "receipts", "shop.main.changelog", "shop.main.replay"])
    (group,) = form_groups("shop", declared.agents, [shop.balances], topics, frozenset())
    site = Worksite(
        app="shop", log=log, engine=MemoryEngine(), settings=quick(), topics=topics, figures=FlowFigures()
    )
    return site, group


async def test_a_fenced_task_that_is_another_workers_gives_up_and_does_not_fence_back() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    keeper, run = await kept(shop, log, Elsewhere())
    owner = await log.writer(transactional_id("shop", "main", 0))
    raw = shop.buys.values.encode(Bought(1, 1))
    await append(log, "buys", [(b"1", raw)])
    await run
    assert keeper.state is KeeperState.DONE
    assert keeper.given_up_in == 2
    assert keeper.view.state is ViewState.CLOSED
    await owner.commit([Append("receipts", 0, [(b"1", raw, (), 0)])])


async def test_a_task_that_was_fenced_while_it_was_leaving_asks_before_it_begins_anew() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log):
        pass
    site, group = await worksite(shop, log)
    owner = await log.writer(transactional_id("shop", "main", 0))
    keeper = Keeper(site, group, 0, Elsewhere(), tasks_of(site, group, 0), must_ask=True)
    await keeper.run()
    assert keeper.given_up_in == 2
    raw = shop.buys.values.encode(Bought(1, 1))
    await owner.commit([Append("receipts", 0, [(b"1", raw, (), 0)])])


class Silent(Elsewhere):
    """A group that does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def confirm(self) -> Assignment:
        """Nobody says anything."""
        self.asked.set()
        return await asyncio.Future()


async def test_a_fenced_task_that_waits_for_a_silent_group_can_be_stopped() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    membership = Silent()
    keeper, run = await kept(shop, log, membership)
    await log.writer(transactional_id("shop", "main", 0))
    await append(log, "buys", [(b"1", shop.buys.values.encode(Bought(1, 1)))])
    await membership.asked.wait()
    keeper.stop()
    await run
    assert keeper.state is KeeperState.DONE
    assert keeper.given_up_in is None


async def test_inputs_of_one_group_with_different_partitions_are_refused_and_the_way_out_is_named() -> None:
    shop = open_shop(partitions=2)
    doors: headrace.Topic[int, bytes] = shop.app.topic("doors", key_type=int, partitions=3)

    @shop.app.agent(doors)
    async def idle(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            pass

    said = r"inputs of group main differ in partitions: buys has 2, doors has 3\. Send to a topic that is"
    with pytest.raises(errors.DeclarationError, match=said):
        async with running(shop.app):
            pass


async def test_inputs_of_one_group_with_different_partitioners_are_refused() -> None:
    shop = open_shop(partitions=2)
    doors: headrace.Topic[int, bytes] = shop.app.topic("doors", partitions=2, partitioner="crc32")

    @shop.app.agent(doors)
    async def idle(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            pass

    with pytest.raises(errors.DeclarationError, match="different partitioners"):
        async with running(shop.app):
            pass


async def test_a_partition_count_that_changed_under_existing_state_is_refused() -> None:
    log = SimulatedLog()
    async with running(open_shop(partitions=2).app, log=log) as service:
        await service.send_all(service.app.declarations.topics["buys"], by_key(purchases(5)))
        await service.until_applied()
    with pytest.raises(errors.TopicMismatch, match="has 2 partitions, 3 are declared"):
        async with running(open_shop(partitions=3).app, log=log):
            pass
    log.cluster.delete("buys")
    with pytest.raises(errors.TopicMismatch, match=r"topic (buys|shop\.main\.changelog)"):
        async with running(open_shop(partitions=3).app, log=log):
            pass
