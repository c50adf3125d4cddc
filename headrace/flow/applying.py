"""How committed units reach the store: in order; while a task is busy, several large ones as one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from headrace.clock import Clock, is_set_within
from headrace.flow.restore import APPLY_ROWS_MAX
from headrace.flow.room import Room
from headrace.flow.takeover import Held
from headrace.tables.changelog import PositionRecord
from headrace.tables.rows import Rows
from headrace.tables.store import Store
from headrace.tables.view import PartitionView

_LARGE_ROWS = 1_000
"""Of at least so many rows a unit waits for the next ones: a busy task writes the same keys again."""
_UNITS_MAX = 8
"""So many wait at most: a reader looks through each of them."""
_ROW_OVERHEAD_BYTES = 250
"""About what Python takes for a row beyond its bytes."""
_WAIT_S = 0.5
"""How long a large unit waits for the next ones."""
_FREED_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class CommittedUnit:
    """A unit that is in the log and shown to readers, and not in the store yet."""

    record: PositionRecord
    rows: Mapping[bytes, bytes | None]
    """As readers see them."""
    rows_bytes: int
    writes: Sequence[tuple[Rows, dict[Any, Any]]]
    """The same as the agents wrote them, by table."""
    changelog_next: int
    """The changelog's offset after it."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return self.rows_bytes + len(self.rows) * _ROW_OVERHEAD_BYTES


class Applying:
    """The committed units of one task on their way into its store.

    A row that several of the gathered units write is written once, as the last of them has it. A crash
    loses nothing: the changelog has every unit, and the store's mark says which of them it has.
    """

    def __init__(self, held: Held, view: PartitionView, clock: Clock, room: Room) -> None:
        self._held = held
        self._view = view
        self._clock = clock
        self._room = room
        self._waiting: list[CommittedUnit] = []
        self._has_units = asyncio.Event()
        self._is_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._has_room.set()
        self._is_idle.set()

    def add(self, unit: CommittedUnit) -> None:
        """Take the next unit."""
        self._waiting.append(unit)
        self._room.grow(unit.size_bytes)
        self._is_idle.clear()
        self._has_units.set()
        is_full = len(self._waiting) >= _UNITS_MAX or self._room.is_full
        if is_full:
            self._has_room.clear()
        if is_full or len(unit.rows) < _LARGE_ROWS:
            self._is_due.set()

    async def until_room(self) -> None:
        """Return once another unit may be added."""
        await self._has_room.wait()

    async def until_applied(self) -> None:
        """Return once the store has everything that was added."""
        self._is_due.set()
        await self._is_idle.wait()

    async def run(self) -> NoReturn:
        """Apply what is added.

        Cancel: the store has a part of what was added, its mark tells which units as a whole. Raises:
        StoreCorrupt; OSError when the disk refuses.
        """
        units: list[CommittedUnit] = []
        try:
            while True:
                await self._has_units.wait()
                await is_set_within(self._is_due, _WAIT_S, self._clock)
                units, self._waiting = self._waiting, []
                self._has_units.clear()
                self._is_due.clear()
                self._has_room.set()
                await self._apply(units)
                if not self._waiting:
                    self._is_idle.set()
        finally:
            self._room.grow(-sum(unit.size_bytes for unit in (*units, *self._waiting)))

    async def _apply(self, units: list[CommittedUnit]) -> None:
        """Apply them all; they are gone from the list then."""
        last = units[-1]
        merged: dict[bytes, bytes | None] = {}
        if len(units) > 1:
            for unit in units:
                merged.update(unit.rows)
                await asyncio.sleep(0)
        mark = self._held.mark(last.record, last.changelog_next)
        await apply_rows(self._held.store, merged or last.rows, mark)
        while merged:
            for _ in range(min(len(merged), _FREED_ROWS)):
                merged.popitem()
            await asyncio.sleep(0)
        while units:
            # One by one, the oldest first: to let go of ten thousand rows takes a while, too.
            unit = units.pop(0)
            self._room.grow(-unit.size_bytes)
            self._view.retire(unit.rows)
            for table_rows, changed in unit.writes:
                table_rows.applied(changed)
            if units:
                await asyncio.sleep(0)


async def apply_rows(store: Store, rows: Mapping[bytes, bytes | None], mark: bytes) -> None:
    """Write rows into a store in slices; the last one carries the mark.

    Raises: StoreCorrupt; OSError when the disk refuses.
    """
    left = iter(rows.items())
    for _ in range(max(0, (len(rows) - 1) // APPLY_ROWS_MAX)):
        store.write(list(islice(left, APPLY_ROWS_MAX)))
        await asyncio.sleep(0)
    store.write(list(left), mark)
