"""The app of a world, on headrace: what `events.Shop` tells without it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace
from headrace.flow.policy import DeadLetter, Retry
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.events import (
    RATES,
    REFUSED_BY_LOG,
    TOO_LARGE,
    Note,
    Order,
    Rated,
    Told,
    mixed,
)
from tests.simulation.worlds.shape import Shape
from tests.simulation.worlds.steps import Step, fate_of_now

ID = "shop"
_BLOCKED_S = 0.7


class Broken(Exception):
    """An agent refuses an event."""


class ShopApp:
    """Topics, tables, agents and routes as a shape wants them."""

    def __init__(self, shape: Shape, tell: Callable[[str], None]) -> None:
        self.shape = shape
        self.early: list[str] = []
        """Events that were handed out before what their senders had seen, as sentences."""
        self.hanging: Counter[str] = Counter()
        """Events in the hand of an agent that does not return."""
        self._hung: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._tell = tell
        app = self.app = headrace.App(ID)
        parts = shape.partitions
        self.orders = app.topic("orders", key_type=int, value_type=Order, partitions=parts)
        self.notes = app.topic("notes", key_type=int, value_type=Note, partitions=parts)
        self.audit = app.topic("audit", key_type=int, value_type=Told, partitions=2)
        self.balances = app.Table("balances", key_type=int, default=int)
        self.bags = app.Table("bags", key_type=int, value_type=dict[str, int], default=dict)
        self.mixes = app.Table("mixes", key_type=int, default=str)
        self.charged = app.Table("charged", key_type=int, default=int)
        self.counts = app.Table("counts", key_type=int, default=int)
        self.totals = app.Table("totals", key_type=int, default=int)
        self.tallies = app.Table("tallies", key_type=int, default=int)
        self._declare_main()
        if shape.has_archive:
            self._declare_archive()
        if shape.has_rates:
            self._declare_rates()
        if shape.requests:
            self._declare_http()

    # --- agents

    def _declare_main(self) -> None:
        end = Retry(self.shape.retries, backoff_s=0.05) if self.shape.retries else DeadLetter()

        # Partials: what the whiteboard reads of an agent's code, at each start, ends there.
        book, count, collect = partial(self._book), partial(self._count), partial(self._collect)

        @self.app.agent(self.orders, name="book", on_error=end)
        async def booking(orders: headrace.Stream[Order]) -> None:
            async for order in orders:
                await book(order)

        @self.app.agent(self.orders, name="count")
        async def counting(orders: headrace.Stream[Order]) -> None:
            async for order in orders:
                count(order)

        @self.app.agent(self.notes, name="collect")
        async def collecting(notes: headrace.Stream[Note]) -> None:
            async for note in notes:
                await collect(note)

    def _count(self, order: Order) -> None:
        self.counts[order.account] += 1
        self.totals[order.account] = sum(value for _, value in self.counts.items())

    async def _collect(self, note: Note) -> None:
        self.tallies[note.account] += 1
        self.mixes[note.account] = mixed(self.mixes[note.account], note.id)
        told = Told(f"{note.id}t", note.account, self.tallies[note.account])
        await self.audit.send(value=told, key=note.account)

    async def _book(self, order: Order) -> None:
        account = order.account
        self._hold(order)
        bag = self.bags[account]
        bag["n"] = bag.get("n", 0) + 1
        if order.cents % 2:
            self.bags[account] = bag
        # Neither is written: a row that was read, or written, is nobody's to change.
        bag["n"] += 1_000
        self.mixes[account] = mixed(self.mixes[account], order.id)
        self.balances[account] += order.cents
        if (fate := fate_of_now.get(None)) is not None:
            await fate.stand_at(Step.RUN)
        version = 0
        if self.shape.has_rates:
            version = self.rates[account % RATES]
            self.charged[account] = version
        if order.cents % 3:
            await self.notes.send(value=Note(f"{order.id}n", account, version), key=account)
        await self._behave(order)
        if order.how == "closes":
            self.balances.discard(account)

    async def _behave(self, order: Order) -> None:
        self._attempts[order.id] += 1
        match order.how:
            case "raises":
                raise Broken("this one is never booked")
            case "flaky" if self._attempts[order.id] < 2:
                raise Broken("this one is not booked yet")
            case "too large":
                await self.audit.send(value=Told(TOO_LARGE, order.account, 0), key=order.account)
            case "refused":
                await self.audit.send(value=Told(REFUSED_BY_LOG, order.account, 0), key=order.account)
            case "blocks":
                await time_passes(_BLOCKED_S)
            case "hangs" if order.id not in self._hung:
                self._hung.add(order.id)
                await self._hang(order)

    async def _hang(self, order: Order) -> None:
        self._tell(f"{order.id} is not let go of")
        self.hanging[order.id] += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.hanging[order.id] -= 1

    def _hold(self, order: Order) -> None:
        """Hold an event to what its sender had seen."""
        if self.tallies[order.account] < order.tallied:
            self.early.append(
                f"{order.id} follows {order.tallied} notes, and is handed out behind "
                f"{self.tallies[order.account]} of them"
            )
        if self.shape.has_rates and (version := self.rates[order.account % RATES]) < order.rated:
            self.early.append(
                f"{order.id} follows rate {order.rated}, and is handed out behind rate {version}"
            )

    def _declare_archive(self) -> None:
        archived = self.app.Table("archived", key_type=int, default=int, group="archive")

        def keep(note: Note) -> None:
            archived[note.account] += 1

        kept = partial(keep)

        @self.app.agent(self.notes, name="archive", group="archive")
        async def archiving(notes: headrace.Stream[Note]) -> None:
            async for note in notes:
                kept(note)

    def _declare_rates(self) -> None:
        ratings = self.app.topic("ratings", key_type=int, value_type=Rated, partitions=1)
        self.rates = self.app.GlobalTable("rates", key_type=int, default=int, group="rates")

        def keep(rated: Rated) -> None:
            self.rates[rated.kind] = rated.version

        kept = partial(keep)

        @self.app.agent(ratings, name="rate", group="rates")
        async def rating(ratings: headrace.Stream[Rated]) -> None:
            async for rated in ratings:
                kept(rated)

    # --- HTTP

    def _declare_http(self) -> None:
        self.app.serve(self.mixes, "/mixes")
        self.app.serve(self.tallies, "/tallies")
        if self.shape.has_rates:
            self.app.serve(self.rates, "/rates")

        take = partial(self._take)

        @self.app.route("/orders", methods=["POST"])
        async def taking(request: Request) -> JSONResponse:
            return await take(request)

    async def _take(self, request: Request) -> JSONResponse:
        order: Any = msgspec.json.decode(await request.body(), type=Order)
        await self.orders.send(value=order, key=order.account)
        return JSONResponse({"id": order.id})
