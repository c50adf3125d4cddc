"""A steady load that survives its broker, and knows what of it was acknowledged."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping

from headrace.errors import LogError
from headrace.events.envelope import Envelope, Headers, encode_envelope, fresh_event_id
from headrace.events.position import Position, TopicPartition
from headrace.log.port import Append, Log, Outgoing, Writer, catalog
from headrace.log.stretch import chunks
from tests.chaos.storm import PARTITIONS, Line, Marked, Numbered, Sight, marks, numbers
from tests.process.workers import breath

logger = logging.getLogger(__name__)

_RETRY_S = 0.1


class Load:
    """Appends the next numbers of some keys of every partition, tick after tick, and folds them.

    A tick is one transaction: numbers, and a mark for a key of each partition whose stamp names the
    numbers of the ticks before. One whose outcome is not known is looked up in the log.
    """

    def __init__(self, log: Log, *, keys_per_partition: int) -> None:
        self._log = log
        self._keys = _keys_by_partition(keys_per_partition)
        self._writer: Writer | None = None
        self._ticks = 0
        self.ends: dict[TopicPartition, int] = {}
        """The offset after what was acknowledged."""
        self.lines: dict[int, Line] = {}
        self.sights: dict[int, Sight] = {}
        self.given: dict[int, int] = defaultdict(int)
        """The highest number of each key that may be in the log by now."""
        self.doubts = 0
        """Transactions whose outcome was not told and had to be looked up."""
        self.acknowledged_at = time.monotonic()
        """When the last tick was acknowledged."""
        self.pace(numbers_per_tick=10 * PARTITIONS, tick_s=0.1)

    def pace(self, *, numbers_per_tick: int, tick_s: float) -> None:
        """From the next tick on, append so many numbers in each, and a tick every so often."""
        self._numbers = max(1, numbers_per_tick // PARTITIONS)
        self._tick_s = tick_s

    @property
    def keys(self) -> list[int]:
        """Every key."""
        return [key for keys in self._keys for key in keys]

    @property
    def events(self) -> int:
        """How many events were acknowledged."""
        return sum(line.count for line in self.lines.values()) + sum(s.marks for s in self.sights.values())

    async def open(self) -> None:
        """Find the topics, which the first worker has made."""
        infos = await self._log.describe([numbers.name])
        self._catalog = catalog(self._log, infos)

    async def run(self, stopping: asyncio.Event) -> None:
        """Append until told to stop; what was begun is ended."""
        while not stopping.is_set():
            due = time.monotonic() + self._tick_s
            await self.tick()
            await breath(max(0.0, due - time.monotonic()))
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    async def tick(self) -> None:
        """Append the events of one tick, exactly once, however long that takes."""
        lines, sights = self._next_rows()
        self.given.update({key: line.count for key, line in lines.items()})
        appends = self._appends(lines)
        while not await self._try(appends):
            await breath(_RETRY_S)
        self.lines.update(lines)
        self.sights.update(sights)
        self._ticks += 1
        self.acknowledged_at = time.monotonic()

    def _next_rows(self) -> tuple[dict[int, Line], dict[int, Sight]]:
        """The rows that this tick changes, as they are after it."""
        lines: dict[int, Line] = {}
        sights: dict[int, Sight] = {}
        for keys in self._keys:
            for at in range(self._numbers):
                key = keys[(self._ticks * self._numbers + at) % len(keys)]
                line = lines.get(key) or self.lines.get(key, Line())
                lines[key] = line.plus(line.count + 1)
            key = keys[self._ticks % len(keys)]
            sights[key] = Sight(self.sights.get(key, Sight()).marks + 1, 0)
        return lines, sights

    def _appends(self, lines: Mapping[int, Line]) -> list[Append]:
        now_ms = int(time.time() * 1000)
        appends = []
        for partition, keys in enumerate(self._keys):
            records: list[Outgoing] = [
                (numbers.keys.to_wire(key), numbers.values.encode(Numbered(key, number)), (), now_ms)
                for key in keys
                if key in lines
                for number in range(self._count(key) + 1, lines[key].count + 1)
            ]
            appends.append(Append(numbers.name, partition, records))
            key = keys[self._ticks % len(keys)]
            value = marks.values.encode(Marked(key, self._count(key)))
            appends.append(
                Append(
                    marks.name, partition, [(marks.keys.to_wire(key), value, self._stamp(partition), now_ms)]
                )
            )
        return appends

    def _count(self, key: int) -> int:
        return self.lines.get(key, Line()).count

    def _stamp(self, partition: int) -> Headers:
        place = TopicPartition(numbers.name, partition)
        seen = self._catalog.seen(Position({place: self.ends[place]} if place in self.ends else {}))
        return encode_envelope(Envelope(fresh_event_id(), int(time.time() * 1000), stamp=seen.encode()))

    async def _try(self, appends: list[Append]) -> bool:
        """Whether the transaction is in the log now; False: it is not, and never will be."""
        try:
            if self._writer is None:
                self._writer = await self._log.writer("storm-load")
            self.ends.update(await self._writer.commit(appends))
        except LogError as error:
            logger.info("the load: %s", error)
            return await self._look_up()
        return True

    async def _look_up(self) -> bool:
        """Fence the transaction that failed, so that it is decided, and see whether it was committed."""
        self.doubts += 1
        while True:
            try:
                if self._writer is not None:
                    await self._writer.close()
                    self._writer = None
                self._writer = await self._log.writer("storm-load")
                found = await self._behind_ends()
            except LogError as error:
                logger.info("the load: %s", error)
                await breath(_RETRY_S)
                continue
            self.ends.update(found)
            assert not found or len(found) == 2 * PARTITIONS, (
                f"a part of a transaction is in the log: {found}"
            )
            return bool(found)

    async def _behind_ends(self) -> dict[TopicPartition, int]:
        """The partitions that hold records behind what was acknowledged, and where those end."""
        places = [TopicPartition(topic.name, p) for topic in (numbers, marks) for p in range(PARTITIONS)]
        found: dict[TopicPartition, int] = {}
        for place, held in (await self._log.offsets(places)).items():
            async for chunk in chunks(self._log, place, self.ends.get(place, 0), held.end):
                if chunk.offsets:
                    found[place] = chunk.offsets[-1] + 1
        return found


def _keys_by_partition(count: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(PARTITIONS)]
    key = 0
    while any(len(keys) < count for keys in found):
        keys = found[numbers.partitioner.place(numbers.keys.to_wire(key), PARTITIONS)]
        if len(keys) < count:
            keys.append(key)
        key += 1
    return found
