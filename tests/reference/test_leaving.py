"""Loyalty leaves the shared database while the old services go on: its tables are the same on both sides."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import agents.database
import agents.loyalty  # noqa: F401
from app import database, loyalty
from app.before import backfill
from app.before.stage import Stage, move_to
from headrace.bridge.database import connect
from headrace.bridge.session import Engine
from headrace.log.simulated.log import SimulatedLog
from tests.reference.old import OldSystem, old_system
from tests.reference.purchases import DAY, basket, coupon, line
from tests.service import Service, quick, running

HOUSEHOLDS = range(1, 13)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        return connect(f"sqlite://{tmp_path}/shop.db")
    return connect(request.getfixturevalue("postgres_url"))


class Chain:
    """The old system, the bridge, and the new loyalty."""

    def __init__(self, old: OldSystem, bridge: Service, loyalty: Service) -> None:
        self.old = old
        self.bridge = bridge
        self.loyalty = loyalty
        self._basket_id = 0

    async def trade(self, day: date) -> None:
        """A day at the tills: baskets, some with a coupon, and redemptions of all households."""
        baskets = []
        for household in HOUSEHOLDS:
            self._basket_id += 1
            cents = 20 if household % 3 == 0 else 0
            sold = line(150 + household, coupon_cents=cents)
            baskets.append(basket(household, sold, line(99), basket_id=self._basket_id, day=day))
        await self.old.post("checkout", "/baskets", *baskets)
        for household in HOUSEHOLDS:
            await self.old.post("promotions", "/redemptions", coupon(household, day=day))

    async def compare(self, days: int) -> None:
        """Once everything has arrived both sides are the same, and right."""
        private = self.loyalty.table("balances")
        await self.loyalty.until(
            lambda: sum(row.visits for row in private.rows().values()) == days * len(HOUSEHOLDS)
        )
        judged = self.loyalty.table("redemptions")
        await self.loyalty.until(lambda: sum(map(len, judged.rows().values())) == days * len(HOUSEHOLDS))
        await self.bridge.until_applied()
        shared = await self.old.rows("SELECT * FROM balances ORDER BY household_id")
        assert shared == [
            (key, row.spend_cents, row.discount_cents, row.visits, row.points)
            for key, row in sorted(private.rows().items())
        ]
        honoured = await self.old.rows("SELECT count(*) FROM judgements WHERE is_honoured")
        assert honoured == [(days * len([each for each in HOUSEHOLDS if each % 3 == 0]),)]
        assert sum(row.is_honoured for rows in judged.rows().values() for row in rows) == honoured[0][0]


@asynccontextmanager
async def chain(engine: Engine, url: str) -> AsyncIterator[Chain]:
    log = SimulatedLog()
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(old_system(engine))
        settings = quick(database=url)
        bridge = await stack.enter_async_context(running(database.app, log=log, settings=settings))
        new = await stack.enter_async_context(running(loyalty.app, log=log))
        yield Chain(old, bridge, new)


async def test_loyaltys_tables_are_the_same_on_both_sides_at_every_stage(
    engine: Engine, request: Any
) -> None:
    url = engine.url if hasattr(engine, "url") else engine.shown
    async with chain(engine, url) as shop:
        day = DAY
        await shop.trade(day)
        await move_to(Stage.BASKETS, engine)
        await shop.trade(day := day + timedelta(days=1))
        assert await backfill.publish_baskets(engine) == len(HOUSEHOLDS)
        await move_to(Stage.PUBLISHED, engine)
        await shop.trade(day := day + timedelta(days=1))
        assert await backfill.publish_redemptions(engine) == 2 * len(HOUSEHOLDS)
        await shop.compare(days=3)
        await move_to(Stage.APPLIED, engine)
        await shop.trade(day := day + timedelta(days=1))
        await shop.compare(days=4)
        await move_to(Stage.PUBLISHED, engine)
        await shop.trade(day + timedelta(days=1))
        await shop.compare(days=5)
        assert await backfill.publish_baskets(engine) == 0
