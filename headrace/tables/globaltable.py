"""A table that every worker has all of: its declaration, and its rows where they are only read."""

from collections.abc import Iterator
from contextlib import ExitStack
from heapq import merge
from typing import Any, NoReturn

from headrace.errors import GlobalRecovering, NotOwner, OutsideAgent, StillRecovering
from headrace.tables.globalview import GlobalView
from headrace.tables.rows import ABSENT
from headrace.tables.table import K, Table, V
from headrace.tables.view import FrozenView


class GlobalTable(Table[K, V]):
    """A table of a group of its own, written by that group's one agent and readable everywhere in the app.

    The agent that writes it has, as with any table, the rows of its partition, those of the unit in
    hand included, and none of the others. All other agents, and routes, timers and tasks, have the
    committed rows of all partitions, as far as their worker has followed the changelog.
    """

    def __repr__(self) -> str:
        return f"<GlobalTable {self.name} of group {self.group}>"


class FollowedRows:
    """A global table inside a task of another group: committed rows, and none that can be written.

    What it holds may move on whenever the agent awaits; within an event that awaits nothing it stands.
    """

    def __init__(
        self, table: GlobalTable[Any, Any], followed: GlobalView, *, reader: str, cache_rows_max: int
    ) -> None:
        self._table = table
        self._followed = followed
        self._reader = reader
        self._cached: dict[Any, Any] = {}
        """Decoded rows of immutable types, as of this version."""
        self._version = -1
        self._cache_rows_max = cache_rows_max if table.values.is_immutable else 0

    def get(self, key: Any) -> Any:
        """The value of a key, or ABSENT. Raises: GlobalRecovering, RowMismatch, StoreCorrupt."""
        followed = self._followed
        if followed.version != self._version or len(self._cached) > self._cache_rows_max:
            self._cached.clear()
            self._version = followed.version
        value = self._cached.get(key, self)
        if value is self:
            table = self._table
            try:
                raw = followed.get(table.keys.to_wire(key), table.row_prefix + table.keys.to_store(key))
            except (StillRecovering, NotOwner) as error:
                raise GlobalRecovering(f"global table {table.name} cannot be read: {error.what}") from error
            value = ABSENT if raw is None else table.values.decoded(raw)
            if self._cache_rows_max:
                self._cached[key] = value
        return value

    def put(self, key: Any, value: Any, guard: object) -> NoReturn:
        """Raises: OutsideAgent."""
        raise self._refusal("writes to")

    def remove(self, key: Any, guard: object) -> NoReturn:
        """Raises: OutsideAgent."""
        raise self._refusal("deletes from")

    def scan(self) -> Iterator[tuple[Any, Any]]:
        """Every row of all partitions, in key order; decoded afresh. Raises: GlobalRecovering."""
        table = self._table
        prefix, size = table.row_prefix, len(table.row_prefix)
        frozen: list[FrozenView] = []
        with ExitStack() as snapshots:
            try:
                for view in self._followed.partitions:
                    frozen.append(view.freeze())
                    snapshots.callback(frozen[-1].close)
            except (StillRecovering, NotOwner) as error:
                raise GlobalRecovering(f"global table {table.name} cannot be read: {error.what}") from error
            for key, raw in merge(*(rows.scan(prefix, prefix[:-1] + b"\1") for rows in frozen)):
                yield table.keys.from_store(key[size:]), table.values.decoded(raw)

    def _refusal(self, does: str) -> OutsideAgent:
        table, inputs = self._table, " or ".join(sorted(self._followed.inputs))
        return OutsideAgent(
            f"an agent of group {self._reader} {does} global table {table.name}, which only the agent of "
            f"group {table.group} writes",
            hint=f"Send an event to {inputs}, and let the agent of group {table.group} write the row.",
        )
