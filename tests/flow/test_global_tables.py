"""Every worker has all of a global table: committed rows of whole units, ready before anybody reads them."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

import headrace
from headrace import TopicPartition, errors
from headrace.cli.layout import find_layout
from headrace.clock import SYSTEM_CLOCK
from headrace.flow.reset import reset_task
from headrace.http.probes import readyz
from headrace.log.port import Reader
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from headrace.tables.view import ViewState
from headrace.testing import Crash, CrashPoint, Join, Send, harness
from tests.flow.mortal import LastingEngine, MortalCluster
from tests.flow.priced_shop import (
    Ordered,
    Price,
    Priced,
    PricedShop,
    by_product,
    declare_priced_shop,
    open_priced_shop,
    price_list,
)
from tests.service import Service, quick, running

PRODUCTS = 20
CHANGELOG = "priced.prices.changelog"


def orders(count: int = PRODUCTS) -> list[tuple[int, Ordered]]:
    """Everybody orders a product of their own."""
    return [(who, Ordered(who, f"p{who}")) for who in range(count)]


def bills(count: int = PRODUCTS, *, cents: int = 100) -> dict[int, dict[str, int]]:
    """What these orders cost, by the price list."""
    return {who: {f"p{who}": cents + who} for who in range(count)}


async def priced(service: Service, shop: PricedShop, *, cents: int = 100) -> None:
    """Let prices be known to the worker."""
    await service.send_all(shop.priced, by_product(price_list(PRODUCTS, cents=cents)))
    await service.until_applied()
    await service.until_followed()


async def billed(service: Service, shop: PricedShop) -> dict[int, dict[str, int]]:
    """What the orders come to."""
    await service.send_all(shop.ordered, orders())
    await service.until_applied()
    found: dict[int, dict[str, int]] = service.table("bills").rows()
    return found


def add_orders(shop: PricedShop) -> None:
    """An agent for the shop's other table."""

    @shop.app.agent(shop.ordered)
    async def take(events: headrace.Stream[Ordered]) -> None:
        async for event in events:
            shop.bills[event.who] = {event.product: 0}


# --- who reads what


async def test_an_agent_reads_the_rows_of_every_partition_whatever_its_own() -> None:
    shop = open_priced_shop()
    async with running(shop.app) as service:
        await priced(service, shop)
        assert await billed(service, shop) == bills()


async def test_a_timer_or_route_reads_any_key_and_cannot_write_one() -> None:
    shop = open_priced_shop()
    async with running(shop.app) as service:
        await priced(service, shop)
        with service.runtime.direct():
            assert [shop.prices[f"p{n}"].cents for n in range(PRODUCTS)] == list(range(100, 100 + PRODUCTS))
            assert "p0" in shop.prices
            assert "none" not in shop.prices
            assert shop.prices.get("none") is None
            with pytest.raises(errors.OutsideAgent):
                shop.prices["p0"] = Price(1)


async def test_an_agent_of_another_group_sees_all_rows_in_key_order() -> None:
    shop = declare_priced_shop()
    seen: list[list[tuple[str, int]]] = []

    @shop.app.agent(shop.priced, group="prices")
    async def price(events: headrace.Stream[Priced]) -> None:
        async for event in events:
            shop.prices[event.product] = Price(event.cents)

    @shop.app.agent(shop.ordered)
    async def look(events: headrace.Stream[Ordered]) -> None:
        async for _ in events:
            seen.append([(product, row.cents) for product, row in shop.prices.items()])

    async with running(shop.app) as service:
        await priced(service, shop)
        await service.send(shop.ordered, Ordered(1, "p1"), key=1)
        await service.until_applied()
    assert seen == [sorted((event.product, event.cents) for event in price_list(PRODUCTS))]


@pytest.mark.parametrize("is_deleting", [False, True])
async def test_what_another_agent_writes_is_refused_with_what_to_do_instead(is_deleting: bool) -> None:
    shop = open_priced_shop()

    def change(product: str) -> None:
        if is_deleting:
            shop.prices.discard(product)
        else:
            shop.prices[product] = Price(0)

    refusals: list[str] = []

    @shop.app.agent(shop.ordered, name="discount")
    async def discount(events: headrace.Stream[Ordered]) -> None:
        async for event in events:
            try:
                change(event.product)
            except errors.OutsideAgent as refusal:
                refusals.append(str(refusal))

    async with running(shop.app) as service:
        await priced(service, shop)
        await service.send(shop.ordered, Ordered(1, "p1"), key=1)
        await service.until_applied()
    (said,) = refusals
    assert "global table prices" in said
    assert "Send an event to priced.events, and let the agent of group prices write the row." in said


async def test_the_writing_agent_sees_its_own_unit_at_once_and_others_see_it_when_it_is_committed() -> None:
    shop = declare_priced_shop(partitions=1)
    opened, seen_outside = asyncio.Event(), asyncio.Event()
    inside: list[Price | None] = []

    @shop.app.agent(shop.priced, group="prices")
    async def price(events: headrace.Stream[Priced]) -> None:
        async for event in events:
            shop.prices[event.product] = Price(event.cents)
            inside.append(shop.prices.get(event.product))
            opened.set()
            await seen_outside.wait()

    add_orders(shop)
    async with running(shop.app) as service:
        await service.send(shop.priced, Priced("bread", 120), key="bread")
        await opened.wait()
        assert inside == [Price(120)]
        with service.runtime.direct():
            assert shop.prices.get("bread") is None
        seen_outside.set()
        await service.until_followed()
        with service.runtime.direct():
            assert shop.prices["bread"] == Price(120)


async def test_an_agent_that_reads_while_the_writer_goes_on_finds_prices_of_whole_units_only() -> None:
    """Two rows that are written together are found together, however often they change meanwhile."""
    shop = declare_priced_shop(partitions=1)
    found: list[tuple[int, int]] = []

    @shop.app.agent(shop.priced, group="prices")
    async def price(events: headrace.Stream[Priced]) -> None:
        async for event in events:
            shop.prices["left"] = Price(event.cents)
            shop.prices["right"] = Price(event.cents)

    @shop.app.agent(shop.ordered)
    async def compare(events: headrace.Stream[Ordered]) -> None:
        async for _ in events:
            left, right = shop.prices.get("left"), shop.prices.get("right")
            found.append((left.cents if left else 0, right.cents if right else 0))

    async with running(shop.app, settings=quick(unit_records_max=3)) as service:
        for turn in range(40):
            await service.send(shop.priced, Priced("both", turn + 1), key="both")
            await service.send_all(shop.ordered, [(who, Ordered(who, "both")) for who in range(4)])
        await service.until_applied()
    assert len(found) == 160
    assert all(left == right for left, right in found)
    by_time = [left for left, _ in found]
    assert len(set(by_time)) > 5


# --- when it is ready


class GatedLog(SimulatedLog):
    """A log that gives a topic to nobody who reads it from the beginning, until it is told to."""

    def __init__(self, log: SimulatedLog, topic: str) -> None:
        super().__init__(log.cluster)
        self.gate = asyncio.Event()
        self._topic = topic

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """As the port says, when the gate is open."""
        if any(place.topic == self._topic and not offset for place, offset in positions.items()):
            await self.gate.wait()
        return await super().reader(positions)


async def test_agents_that_read_it_begin_when_it_is_followed_to_the_end_and_the_writer_begins_at_once() -> (
    None
):
    shop, log, engine = open_priced_shop(), SimulatedLog(), LastingEngine()
    async with running(shop.app, log=log, engine=engine) as service:
        await priced(service, shop)
    for partition in range(3):
        engine.drop("prices.followed", partition)
    gated = GatedLog(log, CHANGELOG)
    runtime = shop.app.current = Runtime(shop.app.declarations, quick(), log=gated, engine=engine)
    service = Service(shop.app, runtime, gated)
    await service.until(
        lambda: [view.state for view in runtime.views() if view.group == "prices"] == [ViewState.SERVING] * 3
    )
    await service.send_all(shop.ordered, orders())
    states = {(view.group, view.state) for view in runtime.views()}
    assert states == {("prices", ViewState.SERVING), ("main", ViewState.RESTORING)}
    status, told = readyz(runtime, is_trusted=False)
    assert status == 503
    assert {partition["state"] for partition in told["followed"].values()} == {"restoring"}
    with runtime.direct(), pytest.raises(errors.StillRecovering):
        shop.prices.get("p1")
    gated.gate.set()
    await service.until_ready()
    await service.until_applied()
    assert readyz(runtime, is_trusted=True)[0] == 200
    assert service.table("bills").rows() == bills()
    await service.stop()


async def test_an_order_that_was_made_because_of_a_price_is_billed_at_that_price_or_a_later_one() -> None:
    """The order's stamp names the price; its task waits until the follower beside it has come so far."""
    shop = open_priced_shop()

    @shop.app.agent(shop.priced, group="launch", name="launch")
    async def launch(events: headrace.Stream[Priced]) -> None:
        async for event in events:
            await shop.ordered.send(key=event.cents % 7, value=Ordered(event.cents % 7, event.product))

    for workers in (1, 2, 3):
        async with harness(shop.app, workers=workers) as h:
            launches = [Send(shop.priced, Priced(f"p{n}", n + 1), key=f"p{n}") for n in range(40)]
            crashes = [Crash(CrashPoint.APPLY, 2, worker=0), Join(), Crash(CrashPoint.COMMITTED, 1)]
            for at, crash in enumerate(crashes):
                await h.run([*launches[10 * at : 10 * at + 10], crash])
            await h.run(launches[30:])
            found = {
                product: cents for bill in h.table(shop.bills).values() for product, cents in bill.items()
            }
            assert found == {f"p{n}": n + 1 for n in range(40)}
            await h.check()


# --- what goes wrong


async def test_while_the_log_is_away_readers_have_what_was_read_before_and_then_what_is_new() -> None:
    shop, cluster = open_priced_shop(), MortalCluster()
    settings = quick(reopen_backoff_max_s=0.01)
    async with running(shop.app, log=SimulatedLog(cluster), settings=settings) as service:
        await priced(service, shop)
        cluster.cut_after(0)
        await cluster.died.wait()
        with service.runtime.direct():
            assert shop.prices["p3"] == Price(103)
        cluster.mend()
        await priced(service, shop, cents=500)
        assert await billed(service, shop) == bills(cents=500)


async def test_a_store_that_is_found_damaged_is_rebuilt_while_its_readers_wait(tmp_path: Path) -> None:
    shop = open_priced_shop()
    settings = quick(store="rocksdb", data=str(tmp_path), instance="one")
    async with running(shop.app, settings=settings) as service:
        await priced(service, shop)
        (followed,) = service.runtime.global_views()
        store = followed.partitions[1]._store
        assert store is not None
        store.damage.note(errors.StoreCorrupt("a block has a wrong checksum"))
        await service.until(lambda: not followed.is_served)
        assert await billed(service, shop) == bills()
        await service.until(lambda: followed.is_served)
    quarantined = [path.name for path in (tmp_path / "priced" / "one").glob("*quarantined*")]
    assert [name.split(".quarantined")[0] for name in quarantined] == ["prices.followed-1"]


async def test_a_store_that_a_crash_left_damaged_is_moved_aside_and_rebuilt(tmp_path: Path) -> None:
    shop, log = open_priced_shop(), SimulatedLog()
    settings = quick(store="rocksdb", data=str(tmp_path), instance="one")
    async with running(shop.app, log=log, settings=settings) as service:
        await priced(service, shop)
    folder = tmp_path / "priced" / "one" / "prices.followed-0"
    (folder / "CURRENT").write_text("nothing\n")
    async with running(shop.app, log=log, settings=settings) as service:
        assert await billed(service, shop) == bills()
    assert list(folder.parent.glob("prices.followed-0.quarantined-*"))


async def test_task_and_follower_have_stores_of_their_own_and_may_be_kept_elsewhere_next_time(
    tmp_path: Path,
) -> None:
    shop, log = open_priced_shop(), SimulatedLog()
    on_disk = quick(store="rocksdb", data=str(tmp_path), instance="one")
    for turn, settings in enumerate((on_disk, quick(instance="one"), on_disk)):
        async with running(shop.app, log=log, settings=settings) as service:
            await priced(service, shop, cents=100 * turn + 1)
            assert await billed(service, shop) == bills(cents=100 * turn + 1)
        log.cluster.compact(CHANGELOG)
    names = {path.name for path in (tmp_path / "priced" / "one").iterdir()}
    assert names >= {f"prices{kind}-{partition}" for kind in ("", ".followed") for partition in range(3)}


async def test_a_changelog_with_an_impossible_unit_ends_the_worker_by_name() -> None:
    shop, log = open_priced_shop(), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await priced(service, shop)
        await service.append(CHANGELOG, b"\0what", b"is this")
        assert isinstance(await service.failure(), errors.ForkedChangelog)


async def test_after_a_reset_agents_wait_until_the_table_is_where_it_was() -> None:
    shop, log, engine = open_priced_shop(), SimulatedLog(), LastingEngine()
    async with running(shop.app, log=log, engine=engine) as service:
        await priced(service, shop)
    async with running(shop.app, log=log) as elsewhere:
        await elsewhere.send_all(shop.ordered, orders())
        await elsewhere.crash()
    group = (await find_layout(log, shop.app.declarations)).groups["prices"]
    for partition in range(group.partitions):
        await reset_task("priced", group, partition, log=log, clock=SYSTEM_CLOCK)
    async with running(shop.app, log=log, engine=engine, settings=quick(unit_records_max=1)) as service:
        await service.until_applied()
        assert service.table("bills").rows() == bills()
        assert service.table("prices").rows() == {f"p{n}": Price(100 + n) for n in range(PRODUCTS)}


# --- compaction


async def test_a_follower_that_compaction_overtook_shows_no_torn_unit_and_ends_where_the_others_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = open_priced_shop(partitions=1)
    async with harness(shop.app, workers=2) as h:
        await h.run([Send(shop.priced, Priced(f"p{n}", 1), key=f"p{n}") for n in range(6)])
        away = next(
            worker for worker in h.workers if not any(view.group == "prices" for view in worker.views())
        )
        (view,) = away.runtime.global_views()
        away.fate.calls_left = 0
        positions = []
        for cents in (2, 3, 4):
            await h.run([Send(shop.priced, Priced(f"p{n}", cents), key=f"p{n}") for n in range(6)])
            positions.append(view.position)
        before = positions[-1]
        assert positions == [before] * 3
        h.log.compact(CHANGELOG)
        away.fate.calls_left = None
        await h.advance(60)
        assert "reads on to the end" in caplog.text
        assert view.position.covers(before)
        assert view.position != before
        await h.check()
