"""The rows of a global table inside a task of another group: committed ones, of all partitions."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from headrace.errors import GlobalRecovering, HeadraceError, NotOwner, OutsideAgent, StillRecovering
from headrace.tables.globaltable import GlobalTable
from headrace.tables.globalview import GlobalView
from headrace.tables.rows import ABSENT


class FollowedRows:
    """A global table as agents of other groups have it: they read it, and cannot write it.

    What it holds may move on whenever the agent awaits; within an event that awaits nothing it stands.
    """

    def __init__(
        self,
        table: GlobalTable[Any, Any],
        followed: GlobalView,
        *,
        reader: str,
        cache_rows_max: int,
        on_look: Callable[[], object],
    ) -> None:
        self.table = table
        self._on_look = on_look
        """Told before a version is read: what was read counts as seen, also when the view closes after it."""
        self._followed = followed
        self._reader = reader
        self._cached: dict[Any, Any] = {}
        """Decoded rows of immutable types, as of this version."""
        self._version = -1
        self._cache_rows_max = cache_rows_max if table.values.is_immutable and followed.may_be_kept else 0

    def get(self, key: Any) -> Any:
        """The value of a key, or ABSENT. Raises: GlobalRecovering, RowMismatch, StoreCorrupt."""
        followed = self._followed
        if followed.version != self._version or len(self._cached) > self._cache_rows_max:
            self._cached.clear()
            self._look()
        value = self._cached.get(key, self)
        if value is self:
            table = self.table
            try:
                raw = followed.get(table.keys.to_wire(key), table.row_prefix + table.keys.to_store(key))
            except (StillRecovering, NotOwner) as error:
                raise self._recovering(error) from error
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
        table = self.table
        prefix, size = table.row_prefix, len(table.row_prefix)
        if self._followed.version != self._version:
            self._cached.clear()
            self._look()
        try:
            for key, raw in self._followed.scan(prefix, prefix[:-1] + b"\1"):
                yield table.keys.from_store(key[size:]), table.values.decoded(raw)
        except (StillRecovering, NotOwner) as error:
            raise self._recovering(error) from error

    def _look(self) -> None:
        self._version = self._followed.version
        self._on_look()

    def _recovering(self, error: HeadraceError) -> GlobalRecovering:
        return GlobalRecovering(f"global table {self.table.name} cannot be read: {error.what}")

    def _refusal(self, does: str) -> OutsideAgent:
        name, writer, inputs = self.table.name, self.table.group, " or ".join(sorted(self._followed.inputs))
        return OutsideAgent(
            f"an agent of group {self._reader} {does} global table {name}, which only the agent of group "
            f"{writer} writes",
            hint=f"Send an event to {inputs}, and let the agent of group {writer} write the row.",
        )
