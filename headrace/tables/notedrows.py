"""The rows of a table of which some are watched: each write to one of these is noted with its event."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.tables.rows import KeyGuard, Rows
from headrace.tables.store import Store
from headrace.tables.table import Table

Note = Callable[[bytes, bytes | None], None]
"""Told of a write: store key and row bytes (None: deleted)."""


class NotedRows(Rows):
    """As `Rows`; a write costs one look-up more."""

    def __init__(
        self,
        table: Table[Any, Any],
        store: Store,
        watched: Mapping[Any, bytes],
        note: Note,
        *,
        cache_rows_max: int,
    ) -> None:
        super().__init__(table.row_prefix, table.keys, table.values, store, cache_rows_max=cache_rows_max)
        self._watched = watched
        self._note = note

    def put(self, key: Any, value: Any, guard: KeyGuard) -> None:
        """Write a row into the open unit. Raises: ForeignKey, UnencodableValue."""
        super().put(key, value, guard)
        if key in self._watched:
            self._note(self._watched[key], self.values.encode(value))

    def remove(self, key: Any, guard: KeyGuard) -> None:
        """Delete a row in the open unit; nothing happens when there is none. Raises: ForeignKey."""
        super().remove(key, guard)
        if key in self._watched:
            self._note(self._watched[key], None)
