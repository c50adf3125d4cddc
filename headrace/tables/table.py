"""What users write `balances[household]` on: the declaration of a table, and its rows wherever code runs."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload

from headrace.errors import DeclarationError, DecodeError, NotSupported, OutsideAgent, RowMismatch
from headrace.events.key import key_codec
from headrace.events.value import Upcast, row_codec
from headrace.tables.rows import ABSENT, RowsInHand, active_rows

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_UNSUPPORTED = ("tumbling", "hopping", "using_window", "clear", "on_window_close", "join", "popitem")


class CommittedRows(Protocol):
    """Reads committed rows of this worker's partitions."""

    def committed(self, table: "Table[Any, Any]", key: Any) -> bytes | None:
        """The committed row bytes. Raises: StillRecovering, NotOwner."""


committed_rows: ContextVar[CommittedRows] = ContextVar("committed_rows")
"""Set wherever code of the app runs outside of agents: routes, timers, tasks."""


class Table(Generic[K, V]):
    """A table declared on the app: a mapping that agents read and write, and everybody else reads.

    Inside an agent it holds what the unit in hand sees; outside (route, timer, task) committed
    rows only. Writing outside of an agent raises OutsideAgent.
    """

    def __init__(
        self,
        name: str,
        *,
        key_type: Any,
        value_type: Any,
        default: Callable[[], V] | None = None,
        group: str = "main",
        upcast: Upcast | None = None,
    ) -> None:
        if not name or "\0" in name or not name.isprintable():
            raise DeclarationError(f"{name!r} cannot be a table's name")
        self.name = name
        self.group = group
        self.default = default
        self.key_type = key_type
        self.keys = key_codec(key_type)
        self.values = row_codec(value_type, upcast)
        self.row_prefix = name.encode() + b"\0"
        self.is_watched = False
        """Whether rows of it may be watched while they are written: a shadow read asks for that."""

    def __repr__(self) -> str:
        return f"<Table {self.name} of group {self.group}>"

    @property
    def renews_rows(self) -> bool:
        """Whether stored rows may have an older shape than the value type."""
        return self.values.has_upcast

    def renewed(self, raw: bytes) -> bytes:
        """A stored row in the shape of the value type. Raises: RowMismatch."""
        try:
            return self.values.renewed(raw)
        except DecodeError as error:
            raise RowMismatch(f"a row of table {self.name} cannot be read: {error.what}") from error

    def _rows(self) -> RowsInHand | None:
        task = active_rows.get(None)
        return task.of(self) if task is not None else None

    def _found(self, key: K) -> Any:
        task = active_rows.get(None)
        if task is not None:
            return task.of(self).get(key)
        source = committed_rows.get(None)
        if source is None:
            raise OutsideAgent(
                f"table {self.name} was read outside of the app",
                hint="Read it in an agent, route, timer or task of a running worker, or over HTTP.",
            )
        raw = source.committed(self, key)
        return ABSENT if raw is None else self.values.decoded(raw)

    def __getitem__(self, key: K) -> V:
        task = active_rows.get(None)
        # One call less than by `_found`: agents spend most of their time here.
        found = self._found(key) if task is None else task.of(self).get(key)
        if found is not ABSENT:
            return found  # type: ignore[no-any-return]
        if self.default is None:
            raise KeyError(key)
        return self.default()

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value of a key, or `default` (not the table's own default) when there is none."""
        found = self._found(key)
        return default if found is ABSENT else found

    def __contains__(self, key: K) -> bool:
        return self._found(key) is not ABSENT

    def __setitem__(self, key: K, value: V) -> None:
        task = active_rows.get(None)
        if task is None or not task.is_open:
            raise OutsideAgent(f"table {self.name} was written where no event is in hand")
        task.of(self).put(key, value, task.guard)

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self.discard(key)

    def discard(self, key: K) -> None:
        """Delete the row of a key if there is one."""
        task = active_rows.get(None)
        if task is None or not task.is_open:
            raise OutsideAgent(f"table {self.name} was written where no event is in hand")
        task.of(self).remove(key, task.guard)

    def pop(self, key: K, *default: D) -> V | D:
        """Delete a row and return what it held; KeyError without a default when there is none."""
        found = self._found(key)
        if found is ABSENT:
            if default:
                return default[0]
            raise KeyError(key)
        self.discard(key)
        return found  # type: ignore[no-any-return]

    def setdefault(self, key: K, value: V) -> V:
        """The value of a key, written first when there is none."""
        found = self._found(key)
        if found is not ABSENT:
            return found  # type: ignore[no-any-return]
        self[key] = value
        return value

    def items(self) -> Iterator[tuple[K, V]]:
        """The rows of the partition in hand, in key order; agents only, and it holds the loop meanwhile."""
        rows = self._rows()
        if rows is None:
            raise OutsideAgent(
                f"table {self.name} was scanned outside of an agent", hint="Scan it over HTTP instead."
            )
        return rows.scan()

    def keys_in_hand(self) -> Iterator[K]:
        """The keys of the partition in hand, in order; agents only."""
        return (key for key, _ in self.items())

    __iter__ = keys_in_hand

    def __getattr__(self, name: str) -> NoReturn:
        if name in _UNSUPPORTED:
            raise NotSupported(f"Table.{name} is not part of headrace yet")
        raise AttributeError(name)
