"""A table folded once more from its changelog, up to a position that somebody else has chosen.

It holds whole units only, the last one that ends at or before that position. Rows of the units that
reach over the position are doubtful: which of their events lie before it is not in the changelog.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from headrace.bridge.pin import Stretches
from headrace.errors import NotAtOnePosition
from headrace.events.position import Position, TopicPartition
from headrace.flow.group import Group
from headrace.log.port import Chunk, Log, Reader
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit
from headrace.tables.store import Row, Store

_RECORDS_MAX = 20_000
_BYTES_MAX = 16 * 1024 * 1024
_BATCH_ROWS = 1_000
_LOOK_S = 0.02
"""After so long without news the log is asked whether there are any to come."""
_GAP_MAX = 64
"""What lies between two offsets is looked up only if it is so little that it may well be no event."""


class _Mark(msgspec.Struct, frozen=True):
    """How far a stored replica is, by partition; what it was made of."""

    changelog_id: str
    offsets: dict[int, int]
    records: dict[int, PositionRecord]


class _Unit(NamedTuple):
    """A unit that was read and does not lie before the position."""

    rows: Mapping[bytes, bytes | None]
    record: PositionRecord
    offset_next: int


@dataclass(slots=True)
class _Tail:
    """One partition of the changelog, as far as it was read."""

    place: TopicPartition
    offset_next: int
    """Where the rows that are held end."""
    record: PositionRecord | None
    """What they stand for; None: nothing yet."""
    units: deque[_Unit] = field(default_factory=deque)
    open_rows: dict[bytes, bytes | None] = field(default_factory=dict)
    """Of the unit whose end is not read yet."""
    read_next: int = 0

    @property
    def last(self) -> PositionRecord | None:
        """What was read last."""
        return self.units[-1].record if self.units else self.record


class Replica:
    """All partitions of one table, in one store."""

    def __init__(
        self,
        log: Log,
        group: Group,
        changelog_id: str,
        row_prefix: bytes,
        store: Store,
        *,
        inputs: Sequence[str],
        stretches: Stretches,
    ) -> None:
        self.doubtful: set[bytes] = set()
        """Keys whose row at the position is not known."""
        self._log = log
        self._group = group
        self._changelog_id = changelog_id
        self._prefix = row_prefix
        self._store = store
        self._inputs = inputs
        self._stretches = stretches
        self._tails: dict[int, _Tail] = {}
        self._reader: Reader | None = None

    # --- life

    async def open(self) -> None:
        """Read the changelog up to the end that it has now. Raises: ForkedChangelog, LogError."""
        changelog = self._group.changelog
        places = [TopicPartition(changelog, number) for number in range(self._group.partitions)]
        held = await self._log.offsets(places)
        mark = _decode(self._store.mark) if self._store.mark is not None else None
        for place in places:
            offset = mark.offsets.get(place.partition, 0) if mark else 0
            record = mark.records.get(place.partition) if mark else None
            tail = _Tail(place, max(offset, held[place].start), record)
            tail.read_next = tail.offset_next
            self._tails[place.partition] = tail
        self._reader = await self._log.reader({t.place: t.offset_next for t in self._tails.values()})
        ends = {place.partition: held[place].stable for place in places}
        while any(self._tails[number].read_next < end for number, end in ends.items()):
            # What compaction left of old units has no ends: rows are taken as they come, up to the end.
            await self._read(is_restoring=True)
        self._keep()

    async def close(self) -> None:
        """Let go of the log; the store is its owner's."""
        if self._reader is not None:
            await self._reader.close()

    # --- read

    def get(self, store_key: bytes) -> bytes | None:
        """A row as of the last whole unit before the position."""
        return self._store.get(store_key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order."""
        snapshot = self._store.snapshot()
        try:
            yield from snapshot.scan(start, end)
        finally:
            snapshot.close()

    def position(self, partition: int) -> Mapping[TopicPartition, int]:
        """How far the rows of a partition are in the inputs that count."""
        return self._places(partition, self._tails[partition].record)

    def _places(self, partition: int, record: PositionRecord | None) -> Mapping[TopicPartition, int]:
        inputs = record.inputs if record is not None else {}
        return {
            TopicPartition(name, partition): inputs[name].offset_next if name in inputs else 0
            for name in self._inputs
        }

    # --- go on

    async def is_before(self, pin: Position, partitions: Collection[int] | None = None) -> bool:
        """Whether every event that the rows contain is before this position."""
        for number in self._tails if partitions is None else partitions:
            if not await self._stretches.contains(pin, self.position(number)):
                return False
        return True

    async def advance(
        self, pin: Position, partitions: Collection[int] | None = None, *, patience_s: float
    ) -> None:
        """Stand at the last whole units before a position that `is_before` has found to be ahead.

        Raises: NotAtOnePosition when the table does not come so far in time; ForkedChangelog, LogError.
        """
        self.doubtful = set()
        deadline = asyncio.get_running_loop().time() + patience_s
        for number in self._tails if partitions is None else partitions:
            at = {TopicPartition(t, number): pin.get(TopicPartition(t, number), 0) for t in self._inputs}
            await self._advance(self._tails[number], at, deadline)
        self._keep()

    async def _advance(self, tail: _Tail, pin: Mapping[TopicPartition, int], deadline: float) -> None:
        number = tail.place.partition
        is_asked = False
        while True:
            while tail.units and await self._is_within(self._places(number, tail.units[0].record), pin):
                self._take(tail, tail.units.popleft())
            last = self._places(number, tail.last)
            if all(last[place] >= offset for place, offset in pin.items()):
                break
            if is_asked and await self._stretches.contains(last, pin):
                break
            if asyncio.get_running_loop().time() >= deadline:
                raise NotAtOnePosition(
                    f"partition {number} of the table stands at {_text(last)}, the database at {_text(pin)}"
                )
            is_asked = not await self._read_within(_LOOK_S)
        if tail.units and not await self._stands_at(self._places(number, tail.record), pin):
            for unit in tail.units:
                self.doubtful |= unit.rows.keys()
                ends = self._places(number, unit.record)
                if all(ends[place] >= offset for place, offset in pin.items()):
                    break

    async def _is_within(self, ends: Mapping[TopicPartition, int], pin: Mapping[TopicPartition, int]) -> bool:
        """Whether a unit that ends there lies before the position."""
        for place, offset in pin.items():
            if ends[place] > offset and (
                ends[place] - offset > _GAP_MAX
                or not await self._stretches.is_empty(place, offset, ends[place])
            ):
                return False
        return True

    async def _stands_at(
        self, begins: Mapping[TopicPartition, int], pin: Mapping[TopicPartition, int]
    ) -> bool:
        """Whether no event lies between where the rows end and the position: they stand right there."""
        for place, offset in pin.items():
            if begins[place] < offset and (
                offset - begins[place] > _GAP_MAX
                or not await self._stretches.is_empty(place, begins[place], offset)
            ):
                return False
        return True

    async def _read_within(self, seconds: float) -> bool:
        """Read what comes in so long; whether anything did."""
        try:
            async with asyncio.timeout(seconds):
                await self._read()
        except TimeoutError:
            return False
        return True

    async def _read(self, *, is_restoring: bool = False) -> None:
        assert self._reader is not None
        for chunk in await self._reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
            self._note(self._tails[chunk.partition], chunk, is_restoring=is_restoring)

    def _note(self, tail: _Tail, chunk: Chunk, *, is_restoring: bool) -> None:
        prefix = self._prefix
        for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
            if key == POSITION_KEY:
                record = follow_unit(
                    tail.last, value or b"", topic=chunk.topic, partition=chunk.partition, offset=offset
                )
                tail.units.append(_Unit(tail.open_rows, record, offset + 1))
                tail.open_rows = {}
                if is_restoring:
                    self._take(tail, tail.units.popleft())
            elif key is not None and key.startswith(prefix):
                tail.open_rows[key] = value
                if is_restoring and len(tail.open_rows) >= _BATCH_ROWS:
                    self._write(tail.open_rows)
                    tail.open_rows = {}
        tail.read_next = chunk.offset_next

    def _take(self, tail: _Tail, unit: _Unit) -> None:
        self._write(unit.rows)
        tail.record, tail.offset_next = unit.record, unit.offset_next

    def _write(self, rows: Mapping[bytes, bytes | None]) -> None:
        batch: Sequence[Row] = list(rows.items())
        for start in range(0, len(batch), _BATCH_ROWS):
            self._store.write(batch[start : start + _BATCH_ROWS])

    def _keep(self) -> None:
        """Note in the store how far it is: rows that are newer than this are read again."""
        tails = self._tails.items()
        mark = _Mark(
            self._changelog_id,
            {number: tail.offset_next for number, tail in tails},
            {number: tail.record for number, tail in tails if tail.record is not None},
        )
        self._store.write((), msgspec.json.encode(mark))


def _decode(raw: bytes) -> _Mark:
    return msgspec.json.decode(raw, type=_Mark)


def _text(position: Mapping[TopicPartition, int]) -> str:
    return ", ".join(f"{place.topic}/{place.partition} {offset}" for place, offset in position.items())
