"""Several partitions read side by side, in the order in which a task would be handed their events."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import lru_cache
from typing import NamedTuple

from headrace.errors import DecodeError, MalformedStamp
from headrace.events.envelope import Headers, decode_envelope
from headrace.events.position import Catalog, TopicPartition
from headrace.events.seen import Seen
from headrace.log.port import Chunk, Log, OffsetRange
from headrace.log.stretch import chunks
from headrace.turns import Turns

_RUN_RECORDS_MAX = 256
_STAMPS_CACHED = 4_096
_FOR_EVER = 2**63


class Run(NamedTuple):
    """Records of one partition that follow one another: those of the chunk from `start` up to `stop`."""

    chunk: Chunk
    start: int
    stop: int


async def merged(
    log: Log,
    ranges: Mapping[TopicPartition, OffsetRange],
    catalog: Catalog,
    fences: Sequence[Mapping[str, int]] = (),
) -> AsyncGenerator[Run, None]:
    """The records of these partitions, each in offset order, and none before what its stamp names.

    Beyond that the earlier record comes first. Where units are known the order is theirs: `fences`
    are the next offsets by topic behind each of them, and the records of one come before those of
    the next. Nothing behind the last fence is read.
    """
    async with AsyncExitStack() as opened:
        lanes = []
        for place, held in ranges.items():
            end = min(held.stable, fences[-1].get(place.topic, 0)) if fences else held.stable
            fetched = await opened.enter_async_context(aclosing(chunks(log, place, held.start, end)))
            lanes.append(_Lane(place, fetched, held.start, end))
        waits = _Waits(catalog, lanes)
        for fence in fences or ({place.topic: _FOR_EVER for place in ranges},):
            async with aclosing(_until(fence, lanes, waits)) as runs:
                async for run in runs:
                    yield run


async def _until(
    fence: Mapping[str, int], lanes: Sequence["_Lane"], waits: "_Waits"
) -> AsyncGenerator[Run, None]:
    turns = Turns()
    while True:
        for lane in lanes:
            await lane.fill()
        within = [lane for lane in lanes if lane.offset < min(lane.end, fence.get(lane.place.topic, 0))]
        if not within:
            return
        # None is free where stamps are not true; then time alone decides.
        free = [lane for lane in within if not waits.holds(lane, lane.index)] or within
        first = min(free, key=lambda lane: lane.timestamp_ms)
        others = [lane.timestamp_ms for lane in within if lane is not first]
        end = min(first.end, fence[first.place.topic])
        yield first.take(end, min(others) if others else None, waits)
        if turns.is_due:
            await turns.give()


class _Lane:
    """One partition, with the record at hand that comes next."""

    def __init__(
        self, place: TopicPartition, fetched: AsyncGenerator[Chunk, None], start: int, end: int
    ) -> None:
        self.place = place
        self.end = end
        self.index = 0
        self._fetched = fetched
        self._chunk: Chunk | None = None
        self._offset_next = start
        """Where the partition is read on behind the chunk at hand."""

    async def fill(self) -> None:
        """Have a record at hand, unless the end is reached."""
        while self._offset_next < self.end and (self._chunk is None or self.index >= len(self._chunk)):
            self._chunk = await anext(self._fetched, None)
            self.index = 0
            self._offset_next = self._chunk.offset_next if self._chunk else self.end

    @property
    def chunk(self) -> Chunk:
        """What was fetched last."""
        assert self._chunk is not None
        return self._chunk

    @property
    def offset(self) -> int:
        """Everything before it was taken: that of the record at hand; the end when there is none."""
        if self._chunk is None or self.index >= len(self._chunk):
            return max(self._offset_next, self.end)
        return self._chunk.offsets[self.index]

    @property
    def timestamp_ms(self) -> int:
        """The time of the record at hand."""
        return self.chunk.timestamps_ms[self.index]

    def take(self, end: int, until_ms: int | None, waits: "_Waits") -> Run:
        """The record at hand, and those that follow it before `end` and not later than the others' next."""
        chunk, start = self.chunk, self.index
        stop = start + 1
        last = len(chunk) if until_ms is None else min(len(chunk), start + _RUN_RECORDS_MAX)
        while (
            stop < last
            and chunk.offsets[stop] < end
            and (until_ms is None or (chunk.timestamps_ms[stop] <= until_ms and not waits.holds(self, stop)))
        ):
            stop += 1
        self.index = stop
        return Run(chunk, start, stop)


class _Waits:
    """Tells whether a record's stamp names what the other lanes have not given yet."""

    def __init__(self, catalog: Catalog, lanes: Sequence[_Lane]) -> None:
        self._catalog = catalog
        self._lanes = {lane.place: lane for lane in lanes}
        self._named = lru_cache(maxsize=_STAMPS_CACHED)(self._names)

    def holds(self, lane: _Lane, index: int) -> bool:
        """Whether the record at this index of the lane's chunk has to wait."""
        if len(self._lanes) == 1:
            return False
        return any(
            # What lies behind a lane's end is not waited for: nobody will give it.
            min(offset, other.end) > other.offset
            for other, offset in self._named(_stamp(lane.chunk.headers[index]))
            if other is not lane
        )

    def _names(self, stamp: bytes) -> tuple[tuple[_Lane, int], ...]:
        return tuple(self._of(stamp)) if stamp else ()

    def _of(self, stamp: bytes) -> Iterator[tuple[_Lane, int]]:
        try:
            seen = Seen.decode(stamp)
        except MalformedStamp:
            return
        for place, offset in self._catalog.position(seen).items():
            if (lane := self._lanes.get(place)) is not None:
                yield lane, offset


def _stamp(headers: Headers) -> bytes:
    try:
        envelope = decode_envelope(headers)
    except DecodeError:
        return b""
    return envelope.stamp if envelope else b""
