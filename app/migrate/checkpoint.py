"""Every household on both sides, at one position, against the sums of exactly what that position contains.

The database says in a snapshot what it stands for; loyalty's own tables are then read with at least that.
They may have gone on meanwhile: households that were sold to in between are looked at again, with another
snapshot. Nothing is stopped for it.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from app.migrate.ledger import Ledger
from app.migrate.sides import APPLIER, Tables, read_database, read_own
from app.truth import Household, Part, Redeemed, Truth, load_truth
from headrace.bridge.pin import pinned
from headrace.bridge.session import Access, Engine, Session
from headrace.events.position import Position
from headrace.events.token import Token

LOOKS_MAX = 20

_BASKET_IDS = "SELECT basket_id FROM baskets"
_REDEMPTIONS = "SELECT household_id, coupon_upc, campaign_id, day FROM redemptions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one comparison has found."""

    name: str
    facts: int
    """Baskets and redemptions that the position contains."""
    households: int
    at_once: int
    """Households that both sides were seen at the first position; the others at a later one."""
    looks: int
    database_wrong: int
    own_wrong: int
    unseen: int
    """Households that were not seen at one position on both sides."""

    @property
    def is_exact(self) -> bool:
        """Whether every household is right on both sides."""
        return not (self.database_wrong or self.own_wrong or self.unseen)


async def check_database(engine: Engine) -> Checkpoint:
    """Compare the old database with the sums of what it contains itself, in one snapshot.

    So it is before anything is published: no position says what the tables stand for.
    """
    session = await engine.connect(Access.SNAPSHOT, purpose="check")
    try:
        ids = [row[0] for row in await session.fetch(_BASKET_IDS)]
        redeemed = [
            Redeemed(household, coupon, campaign, date.fromisoformat(day))
            for household, coupon, campaign, day in await session.fetch(_REDEMPTIONS)
        ]
        tables = await read_database(session)
    finally:
        await session.close()
    truth = await asyncio.to_thread(load_truth, Part(ids, redeemed))
    everybody = truth.households.keys() | tables.balances.keys()
    return Checkpoint(
        name="before",
        facts=len(ids) + len(redeemed),
        households=len(everybody),
        at_once=len(everybody),
        looks=1,
        database_wrong=len(households_wrong(truth, tables, everybody)),
        own_wrong=0,
        unseen=0,
    )


class Checkpoints:
    """Compares both sides whenever it is asked to."""

    def __init__(self, engine: Engine, ledger: Ledger, own: str) -> None:
        self._engine = engine
        self._ledger = ledger
        self._own = own

    async def check(self, name: str) -> Checkpoint:
        """Compare every household; some seconds. Raises: NoAnswer, DatabaseUnavailable, LogError."""
        session = await self._engine.connect(Access.SNAPSHOT, purpose="checkpoint")
        try:
            found = Checkpoint(
                name=name, facts=0, households=0, at_once=0, looks=0, database_wrong=0, own_wrong=0, unseen=0
            )
            left: set[int] | None = None
            while found.looks < LOOKS_MAX and (left is None or left):
                position, database, own, moved = await self._look(session)
                truth = await asyncio.to_thread(load_truth, self._ledger.part(position))
                if left is None:
                    everybody = truth.households.keys() | database.balances.keys() | own.balances.keys()
                    left = everybody
                    facts = truth.baskets + truth.honoured + truth.corrected
                    found = replace(
                        found, facts=facts, households=len(everybody), at_once=len(everybody - moved)
                    )
                seen = left - moved
                left = left & moved
                found = replace(
                    found,
                    looks=found.looks + 1,
                    database_wrong=found.database_wrong + len(households_wrong(truth, database, seen)),
                    own_wrong=found.own_wrong + len(households_wrong(truth, own, seen)),
                    unseen=len(left),
                )
            return found
        finally:
            await session.close()

    async def _look(self, session: Session) -> tuple[Position, Tables, Tables, set[int]]:
        """A position, both sides as they are there, and whose rows may be newer in loyalty's own tables."""
        catalog = self._ledger.catalog
        try:
            position = await pinned(session, APPLIER, catalog.topic_ids)
            # At once: the longer the snapshot is read, the more households are sold to meanwhile.
            token = Token.of(position, catalog)
            database, (own, positions) = await asyncio.gather(
                read_database(session), asyncio.to_thread(read_own, self._own, token, catalog)
            )
        finally:
            await session.rollback()
        moved: set[int] = set()
        for each in positions:
            await self._ledger.read_to(position.merge(each))
            moved |= self._ledger.households_between(position, each)
        return position, database, own, moved


def households_wrong(truth: Truth, tables: Tables, households: Collection[int]) -> set[int]:
    """Those of these households that are not as the sums say."""
    return {key for key in households if _of(tables, key) != _wanted(truth.households.get(key))}


def _of(tables: Tables, household: int) -> Any:
    judged = [row["is_honoured"] for row in tables.redemptions.get(household, ())]
    spend = tables.departments.get(household, {})
    return tables.balances.get(household), spend, judged.count(True), judged.count(False)


def _wanted(household: Household | None) -> Any:
    if household is None:
        return None, {}, 0, 0
    balance = {
        "spend_cents": household.spend_cents,
        "discount_cents": household.discount_cents,
        "visits": household.visits,
        "points": household.points,
    }
    return balance, household.departments, household.honoured, household.corrected
