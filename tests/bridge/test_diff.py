"""A table of the database beside one of the app: what differs at one position, while both go on."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace import bridge
from headrace.bridge.database import connect
from headrace.bridge.diff.opening import Opened, open_comparison
from headrace.bridge.diff.repair import Repair
from headrace.bridge.session import Access, Engine
from headrace.errors import DeclarationError, NotAtOnePosition, SchemaMismatch
from headrace.log.simulated.log import SimulatedLog
from tests.bridge.databases import KINDS, address
from tests.bridge.laggard import Laggard, create, write
from tests.flow.shop import Bought, Shop, open_shop
from tests.service import PATIENCE_S, Service, quick, running

ROWS = int(os.environ.get("HEADRACE_TEST_DIFF_ROWS", "3000"))
PLANTED = 50 if ROWS >= 10_000 else 10
IN_HAND = 500
"""Purchases in one transaction."""
BUSY = ROWS // 2
"""Who is from here on buys while the comparison goes on."""


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(request.param, request, tmp_path)


class Town:
    """A shop, the old database behind it, and a comparison of the two."""

    def __init__(self, url: str, folder: Path, **options: Any) -> None:
        self.engine: Engine = connect(url)
        self.fate = Random(11)
        self.shop: Shop = open_shop(partitions=3)
        self.compared = bridge.Compared(
            self.shop.app,
            self.shop.balances,
            bridge.Database(url),
            sql_table="balances",
            key="who",
            **options,
        )
        self.settings = quick(data=str(folder))
        self.log = SimulatedLog()
        self.service: Service
        self.laggard: Laggard

    @asynccontextmanager
    async def open(self, *, delay_max_s: float = 0.05) -> AsyncIterator["Town"]:
        """The shop is open, and everybody has bought something once."""
        await create(self.engine)
        async with running(self.shop.app, log=self.log, settings=self.settings) as self.service:
            self.laggard = Laggard(self.shop, self.log, self.engine, self.fate, delay_max_s=delay_max_s)
            applying = asyncio.create_task(self.laggard.run(), name="laggard")
            try:
                for start in range(0, ROWS, IN_HAND):
                    await self.sell(range(start, min(ROWS, start + IN_HAND)))
                await self.until_applied()
                yield self
            finally:
                applying.cancel()
                await asyncio.wait({applying})

    async def sell(self, people: Collection[int]) -> None:
        """One purchase of each, not of 10 cents' multiples, of which there would be receipts."""
        events = [Bought(who, self.fate.randrange(0, 100) * 10 + 1) for who in people]
        await self.service.send_all(self.shop.buys, [(event.who, event) for event in events])

    async def until_applied(self) -> None:
        await self.service.until_applied()
        ends = {place: offset for place, offset in self.service.position().items() if offset}
        await asyncio.wait_for(self.laggard.until_at(ends), PATIENCE_S)

    @asynccontextmanager
    async def busy(self, *, pause_s: float = 0.005) -> AsyncIterator[None]:
        """Some people buy all the time; a few of them in every unit."""

        async def buy() -> None:
            while True:
                hot = [BUSY, BUSY + 1, BUSY + 2]
                await self.sell([*hot, *(self.fate.randrange(BUSY, ROWS) for _ in range(7))])
                await asyncio.sleep(pause_s)

        buying = asyncio.create_task(buy(), name="buyers")
        try:
            yield
        finally:
            buying.cancel()
            await asyncio.wait({buying})

    def opened(self, **options: Any) -> Any:
        """The comparison, opened."""
        runtime = self.service.runtime
        group = runtime._groups["main"]
        return open_comparison(self.compared, self.settings, self.log, group, runtime._topics, **options)

    async def found(self, **options: Any) -> dict[str, set[int]]:
        """Keys that differ, by kind."""
        async with self.opened(page_rows=250, **options) as opened:
            await opened.comparison.run(lambda _: None)
            assert not opened.state.doubtful
            return by_kind(opened)


def by_kind(opened: Opened) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {"missing": set(), "extra": set(), "different": set()}
    for each in opened.state.found():
        assert each.key not in found[each.kind]
        found[each.kind].add(each.key)
    return found


CLEAN: dict[str, set[int]] = {"missing": set(), "extra": set(), "different": set()}


async def plant(town: Town) -> dict[str, set[int]]:
    """Differences of each kind; who differs may buy on, who is missing or extra may not."""
    missing = set(town.fate.sample(range(BUSY), PLANTED))
    extra = {-1 - number for number in range(PLANTED - 1)} | {ROWS + 5}
    others = [who for who in range(ROWS) if who not in missing]
    different = set(town.fate.sample(others, PLANTED - 1)) | {BUSY}
    for who in missing:
        await write(town.engine, ("DELETE FROM balances WHERE who = %s", (who,)))
    for who in extra:
        await write(town.engine, ("INSERT INTO balances VALUES (%s, 1, 1)", (who,)))
    for who in different:
        await write(town.engine, ("UPDATE balances SET cents = cents + 5 WHERE who = %s", (who,)))
    return {"missing": missing, "extra": extra, "different": different}


@pytest.mark.timeout(300 + ROWS / 500)
async def test_what_was_planted_is_found_and_nothing_else_while_both_go_on(url: str, tmp_path: Path) -> None:
    async with Town(url, tmp_path).open() as town:
        planted = await plant(town)
        async with town.busy():
            assert await town.found() == planted
            naive = await differing_without_a_position(town)
    # The control: whoever reads both sides without a position takes lag for drift.
    assert naive > sum(map(len, planted.values()))


async def differing_without_a_position(town: Town) -> int:
    session = await town.engine.connect(Access.READ)
    rows = {who: values for who, *values in await session.fetch("SELECT who, cents, visits FROM balances")}
    await session.close()
    table = town.service.table("balances").rows()
    here = {who: [value.cents, value.visits] for who, value in table.items()}
    return sum(rows.get(who) != here.get(who) for who in rows.keys() | here.keys())


async def test_two_sides_that_agree_are_clean_however_far_one_lags(url: str, tmp_path: Path) -> None:
    async with Town(url, tmp_path).open(delay_max_s=0.4) as town, town.busy():
        assert await town.found() == CLEAN


async def test_an_interrupted_comparison_goes_on_where_it_ended(url: str, tmp_path: Path) -> None:
    async with Town(url, tmp_path).open() as town:
        planted = await plant(town)
        async with town.busy():
            reports: list[int] = []

            def interrupt(done: int) -> None:
                reports.append(done)
                if len(reports) == 4:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                async with town.opened(page_rows=250) as opened:
                    await opened.comparison.run(interrupt)
            async with town.opened(page_rows=250, is_resumed=True) as opened:
                assert opened.state.is_resumed
                assert opened.state.progress.compared == reports[-1] > 0
                await opened.comparison.run(reports.append)
                assert by_kind(opened) == planted
        assert reports == sorted(reports)
        assert reports[-1] == ROWS + PLANTED, "a page was compared twice, or none"
        async with town.opened(is_resumed=True) as opened:
            assert not opened.state.is_resumed, "one that has ended begins anew"


async def test_a_share_of_the_keys_finds_the_same_of_them_each_time(url: str, tmp_path: Path) -> None:
    async with Town(url, tmp_path).open() as town:
        planted = await plant(town)
        async with town.opened(share=0.25) as opened:
            await opened.comparison.run(lambda _: None)
            once, compared = by_kind(opened), opened.state.progress.compared
        assert await town.found(share=0.25) == once
    assert 0.15 * ROWS < compared < 0.35 * ROWS
    assert all(once[kind] <= planted[kind] for kind in planted)


async def test_the_database_is_mended_while_it_is_applied_to(url: str, tmp_path: Path) -> None:
    async with Town(url, tmp_path).open() as town:
        planted = await plant(town)
        async with town.busy():
            async with town.opened(page_rows=250) as opened:
                await opened.comparison.run(lambda _: None)
                keys = [bytes.fromhex(each.store_key) for each in opened.state.found()]
                session = await town.engine.connect()
                repair = Repair(opened.comparison, session, is_sqlite=town.engine.name == "sqlite")
                left = await repair.run(keys)
                await session.close()
            assert list(left) == []
            assert repair.repaired == sum(map(len, planted.values()))
            assert await town.found() == CLEAN
        await town.until_applied()
        assert await differing_without_a_position(town) == 0


async def test_what_would_never_come_to_one_position_is_said_and_not_waited_for_ever(tmp_path: Path) -> None:
    async with Town(f"sqlite://{tmp_path}/shop.db", tmp_path).open() as town:
        await write(town.engine, ("UPDATE headrace_positions SET offset_next = offset_next + 1000", ()))
        async with town.opened(patience_s=0.2) as opened:
            with pytest.raises(NotAtOnePosition, match="the table stands at"):
                await opened.comparison.run(lambda _: None)


async def test_an_applier_that_nobody_knows_is_named(tmp_path: Path) -> None:
    async with Town(f"sqlite://{tmp_path}/shop.db", tmp_path, applier="elsewhere/nobody").open() as town:
        with pytest.raises(SchemaMismatch, match="elsewhere/nobody"):
            async with town.opened():
                raise AssertionError("it must not open")


def test_a_comparison_that_cannot_be_is_refused_where_it_is_declared() -> None:
    shop = open_shop()
    with pytest.raises(DeclarationError, match="1 parts"):
        bridge.Compared(shop.app, shop.balances, sql_table="balances", key=("a", "b"))
    with pytest.raises(DeclarationError, match="to="):
        bridge.Compared(shop.app, shop.balances, sql_table="balances", key="who", correction=lambda d: d)
    with pytest.raises(DeclarationError, match="not among"):
        bridge.Compared(
            shop.app, shop.balances, sql_table="balances", key="who", columns={"who": lambda value: 1}
        )
    totals: Any = shop.app.Table("totals", key_type=str, value_type=int)
    with pytest.raises(DeclarationError, match="has no fields"):
        bridge.Compared(shop.app, totals, sql_table="totals", key="name")
    bridge.Compared(shop.app, shop.balances, sql_table="balances", key="who")
    with pytest.raises(DeclarationError, match="twice"):
        bridge.Compared(shop.app, shop.balances, sql_table="balances", key="who")
