"""How committed units reach the store: in order; while a task is busy, several large ones as one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from headrace.clock import Clock, is_set_within
from headrace.flow.restore import APPLY_ROWS_MAX
from headrace.flow.takeover import Held
from headrace.flow.unit import SealedUnit
from headrace.tables.store import Row, Store
from headrace.tables.view import PartitionView

_LARGE_ROWS = 1_000
"""Of at least so many rows a unit waits for the next ones: a busy task writes the same keys again."""
_UNITS_MAX = 8
"""So many wait at most: a reader looks through each of them."""
_BYTES_MAX = 4 * 1024 * 1024
_WAIT_S = 0.1
"""How long a large unit waits for the next one."""


@dataclass(frozen=True, slots=True)
class CommittedUnit:
    """A unit that is in the log and shown to readers, and not in the store yet."""

    sealed: SealedUnit
    changelog_next: int
    """The changelog's offset after it."""


class Applying:
    """The committed units of one task on their way into its store.

    A row that several of the gathered units write is written once, as the last of them has it. A crash
    loses nothing: the changelog has every unit, and the store's mark says which of them it has.
    """

    def __init__(self, held: Held, view: PartitionView, clock: Clock) -> None:
        self._held = held
        self._view = view
        self._clock = clock
        self._waiting: list[CommittedUnit] = []
        self._bytes = 0
        self._has_units = asyncio.Event()
        self._is_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._has_room.set()
        self._is_idle.set()

    def add(self, unit: CommittedUnit) -> None:
        """Take the next unit."""
        self._waiting.append(unit)
        self._bytes += unit.sealed.rows_bytes
        self._is_idle.clear()
        self._has_units.set()
        is_full = len(self._waiting) >= _UNITS_MAX or self._bytes >= _BYTES_MAX
        if is_full:
            self._has_room.clear()
        if is_full or len(unit.sealed.rows) < _LARGE_ROWS:
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
        while True:
            await self._has_units.wait()
            await is_set_within(self._is_due, _WAIT_S, self._clock)
            units, self._waiting, self._bytes = self._waiting, [], 0
            self._has_units.clear()
            self._is_due.clear()
            self._has_room.set()
            await self._apply(units)
            if not self._waiting:
                self._is_idle.set()

    async def _apply(self, units: Sequence[CommittedUnit]) -> None:
        last = units[-1]
        rows = last.sealed.rows
        if len(units) > 1:
            rows = {}
            for unit in units:
                rows.update(unit.sealed.rows)
                await asyncio.sleep(0)
        mark = self._held.mark(last.sealed.record, last.changelog_next)
        await apply_rows(self._held.store, list(rows.items()), mark)
        for unit in units:
            self._view.retire(unit.sealed.rows)
            for table_rows, changed in unit.sealed.writes:
                table_rows.applied(changed)


async def apply_rows(store: Store, rows: Sequence[Row], mark: bytes) -> None:
    """Write rows into a store in slices; the last one carries the mark.

    Raises: StoreCorrupt; OSError when the disk refuses.
    """
    last = max(0, (len(rows) - 1) // APPLY_ROWS_MAX * APPLY_ROWS_MAX)
    for start in range(0, last, APPLY_ROWS_MAX):
        store.write(rows[start : start + APPLY_ROWS_MAX])
        await asyncio.sleep(0)
    store.write(rows[last:], mark)
