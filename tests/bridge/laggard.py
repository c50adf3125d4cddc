"""An old database that is kept up to date from events, as late and in as large steps as chance has it."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random

from headrace.bridge.session import Access, Engine, Session
from headrace.events.position import TopicPartition
from headrace.log.port import Chunk, Log, Reader
from tests.flow.shop import Bought, Shop

APPLIER = ("shop", "applier")
POSITIONS = """CREATE TABLE headrace_positions (
    app text NOT NULL, group_name text NOT NULL, topic text NOT NULL, topic_id text NOT NULL,
    partition integer NOT NULL, offset_next bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (app, group_name, topic, partition))"""
BALANCES = "CREATE TABLE balances (who bigint PRIMARY KEY, cents bigint NOT NULL, visits bigint NOT NULL)"

_ADD = """INSERT INTO balances VALUES (%s, %s, 1) ON CONFLICT (who) DO UPDATE SET
    cents = balances.cents + excluded.cents, visits = balances.visits + 1"""
_STAND = """INSERT INTO headrace_positions (app, group_name, topic, topic_id, partition, offset_next)
    VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (app, group_name, topic, partition)
    DO UPDATE SET offset_next = excluded.offset_next"""


async def create(engine: Engine) -> None:
    """An old database without a row."""
    session = await engine.connect()
    for statement in (POSITIONS, BALANCES):
        await session.execute(statement)
    await session.commit()
    await session.close()


async def write(engine: Engine, *statements: tuple[str, Sequence[object]]) -> None:
    """What somebody else does to the database, in a transaction of its own."""
    session = await engine.connect()
    for sql, parameters in statements:
        await session.execute(sql, parameters)
    await session.commit()
    await session.close()


class Laggard:
    """Adds purchases up in SQL, each once, with their position in the same transaction."""

    def __init__(self, shop: Shop, log: Log, engine: Engine, fate: Random, *, delay_max_s: float) -> None:
        self.history: dict[int, list[tuple[TopicPartition, int, Bought]]] = {}
        """By household the purchases that were applied, with their places."""
        self._topic = shop.buys
        self._log = log
        self._engine = engine
        self._fate = fate
        self._delay_max_s = delay_max_s
        self._reached: dict[TopicPartition, int] = {}
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Apply what comes, until cancelled."""
        info = (await self._log.describe([self._topic.name]))[self._topic.name]
        places = [TopicPartition(info.name, number) for number in range(info.partitions)]
        async with asyncio.TaskGroup() as tasks:
            for place in places:
                tasks.create_task(self._run(place, info.topic_id), name=f"laggard {place.partition}")

    async def _run(self, place: TopicPartition, topic_id: str) -> None:
        reader = await self._log.reader({place: 0})
        session = await self._engine.connect(Access.WRITE)
        try:
            while True:
                await self._step(reader, session, place, topic_id)
        finally:
            await session.close()
            await reader.close()

    async def _step(self, reader: Reader, session: Session, place: TopicPartition, topic_id: str) -> None:
        (chunk,) = await reader.fetch(records_max=10_000, bytes_max=1 << 20)
        if self._delay_max_s and self._fate.random() < 0.5:
            await asyncio.sleep(self._fate.random() * self._delay_max_s)
        while len(chunk):
            size = self._fate.randrange(1, len(chunk) + 1)
            head, chunk = (
                (chunk.head(size), chunk.tail(size)) if size < len(chunk) else (chunk, chunk.tail(size))
            )
            await self._apply(session, head, place, topic_id)

    async def _apply(self, session: Session, head: Chunk, place: TopicPartition, topic_id: str) -> None:
        events: list[Bought] = [self._topic.decode(value) for value in head.values]
        await session.execute_many(_ADD, [(event.who, event.cents) for event in events])
        await session.execute(_STAND, (*APPLIER, place.topic, topic_id, place.partition, head.offset_next))
        await session.commit()
        for offset, event in zip(head.offsets, events, strict=True):
            self.history.setdefault(event.who, []).append((place, offset, event))
        self._reached[place] = head.offset_next
        self._moved.set()

    async def until_at(self, ends: Mapping[TopicPartition, int]) -> None:
        """Return once the database contains what is before these offsets."""
        while any(self._reached.get(place, 0) < end for place, end in ends.items()):
            self._moved.clear()
            await self._moved.wait()
