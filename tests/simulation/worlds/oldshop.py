"""The service that still has a database: an applier keeps its table, and it leaves orders in an outbox."""

import shutil
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

import headrace
from headrace.bridge import Applier, Outbox, Relay, SqlTable
from headrace.bridge.outboxtable import ensure_outbox
from headrace.bridge.session import Access
from headrace.errors import BridgeError
from headrace.events.position import TopicPartition
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.app import ShopApp
from tests.simulation.worlds.database import InlineEngine, WorldDatabase
from tests.simulation.worlds.events import Note, Order

if TYPE_CHECKING:
    from tests.simulation.worlds.world import SimulatedWorld

_IN_MEMORY = Path("/dev/shm")
_ORDERS = 6
_TAKEN_BACK = 0.25


class OldShop:
    """A database with what is told there, and what is left there."""

    def __init__(self, shop: ShopApp, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
        self.engine = InlineEngine(f"{self.folder}/old.db", Random(f"database {seed}"))
        self.committed: list[Order] = []
        self.taken_back: set[str] = set()
        self.unknown: set[str] = set()
        """Left in a transaction whose commit was not answered."""
        self._rng = Random(f"old shop {seed}")
        database = WorldDatabase(self.engine)
        applier = Applier(shop.app, database)
        told = SqlTable("told", key="account", sums=("count",))

        def tell(note: Note) -> None:
            told.add(account=note.account, count=1)
            applier.execute("INSERT INTO heard (id) VALUES (%s)", (note.id,))

        telling = partial(tell)

        @applier.agent(shop.notes, name="tell")
        async def tells(notes: headrace.Stream[Note]) -> None:
            async for note in notes:
                telling(note)

        self.outbox = Outbox(shop.orders)
        Relay(shop.app, [self.outbox], database)

    async def prepare(self) -> None:
        """Make its tables."""
        session = await self.engine.connect()
        await session.execute("CREATE TABLE told (account bigint PRIMARY KEY, count bigint NOT NULL)")
        await session.execute("CREATE TABLE heard (id text NOT NULL)")
        await session.commit()
        await ensure_outbox(self.engine, session)
        await session.commit()
        await session.close()

    async def sell(self, world: "SimulatedWorld") -> None:
        """Leave orders in the outbox, some of them in transactions that are rolled back."""
        rng = self._rng
        for number in range(_ORDERS):
            await time_passes(rng.random() * 2 * world.shape.busy_s / _ORDERS)
            order = msgspec.structs.replace(world.outside.order(f"b{number}", rng), how="plain")
            try:
                await self._leave(order, is_kept=rng.random() > _TAKEN_BACK)
            except BridgeError as error:
                self.unknown.add(order.id)
                world.tell(f"{order.id} is left, or is not: {type(error).__name__}")

    async def _leave(self, order: Order, *, is_kept: bool) -> None:
        session = await self.engine.connect()
        try:
            await self.outbox.asend(session, value=order, key=order.account)
            if is_kept:
                await session.commit()
                self.committed.append(order)
            else:
                await session.rollback()
                self.taken_back.add(order.id)
        finally:
            await session.close()

    async def check(self, world: "SimulatedWorld") -> None:
        """What was committed is in the log once and in order, and every note in the database once."""
        broken = world.model.broken
        lying: dict[int, list[str]] = {}
        notes: list[Note] = []
        for number in range(world.shape.partitions):
            for record in world.ledger.records.get(TopicPartition("orders", number), ()):
                if (record.value or b"").endswith(b"}"):
                    order = msgspec.json.decode(record.value or b"", type=Order)
                    lying.setdefault(order.account, []).append(order.id)
            for record in world.ledger.records.get(TopicPartition("notes", number), ()):
                if (record.value or b"").endswith(b"}"):
                    notes.append(msgspec.json.decode(record.value or b"", type=Note))
        for account in range(world.shape.accounts):
            found = [name for name in lying.get(account, ()) if name[0] == "b" and name not in self.unknown]
            left = [order.id for order in self.committed if order.account == account]
            if found != left:
                broken.append(f"the outbox was left {left} for {account}, and the log has {found}")
        session = await self.engine.connect(Access.READ)
        heard = [row[0] for row in await session.fetch("SELECT id FROM heard")]
        told: dict[Any, Any] = dict(await session.fetch("SELECT account, count FROM told"))
        await session.close()
        if sorted(heard) != sorted(note.id for note in notes):
            broken.append(f"the database has heard {sorted(heard)}, of {sorted(n.id for n in notes)}")
        counts = {account: sum(n.account == account for n in notes) for account in {n.account for n in notes}}
        if told != counts:
            broken.append(f"the database has counted {told}, and there are {counts}")

    async def is_empty(self) -> bool:
        """Whether everything that was left is published and deleted."""
        session = await self.engine.connect(Access.READ)
        try:
            ((count,),) = await session.fetch("SELECT count(*) FROM headrace_outbox")
            return not count
        finally:
            await session.close()

    def close(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)
