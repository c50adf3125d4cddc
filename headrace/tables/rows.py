"""The rows of one table inside one task, as its agents see and change them."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final, Protocol

from headrace.errors import ForeignKey, PositionError, RowMismatch
from headrace.events.key import KeyCodec
from headrace.events.partitioner import Partitioner
from headrace.events.value import ValueCodec
from headrace.tables.journal import Journal
from headrace.tables.store import Row, Store


class _Absent:
    """Stands for: there is no row."""


ABSENT: Final = _Absent()
_UNKNOWN: Final = _Absent()


class RowsInHand(Protocol):
    """One table as the agent that runs now has it."""

    def get(self, key: Any) -> Any:
        """The value of a key, or ABSENT."""

    def put(self, key: Any, value: Any, guard: "KeyGuard") -> None:
        """Write a row. Raises: ForeignKey; OutsideAgent for a table that can only be read here."""

    def remove(self, key: Any, guard: "KeyGuard") -> None:
        """Delete a row; nothing happens when there is none. Raises: as `put`."""

    def scan(self) -> Iterator[tuple[Any, Any]]:
        """Every row there is here, in key order."""


class TaskRows(Protocol):
    """The tables of the task whose agent runs now."""

    is_open: bool
    """Whether a unit is open: an event is in an agent's hand."""
    guard: "KeyGuard"

    def of(self, table: Any) -> RowsInHand:
        """The rows of a table. Raises: OutsideAgent for a table of another group that is not global."""


active_rows: ContextVar[TaskRows] = ContextVar("active_rows")
"""Set in the context of every agent."""


class Rows:
    """One table's rows in one task: the open unit over sealed units over a cache over the store.

    Values of immutable types are kept as they are and encoded when the unit is sealed; others are
    encoded at the write and decoded afresh at each read, so that nobody changes a row in place.
    """

    def __init__(
        self,
        prefix: bytes,
        keys: KeyCodec[Any],
        values: ValueCodec[Any],
        store: Store,
        *,
        cache_rows_max: int,
    ) -> None:
        self.prefix = prefix
        self.keys = keys
        self.values = values
        self._is_shared = values.is_immutable
        """Whether values are kept as they are, and not as bytes."""
        self._store = store
        self._generation_rows_max = max(1, cache_rows_max // 2)
        self.fresh: dict[Any, Any] = {}
        self.journal: Journal | None = None
        """Where writes are noted while events are guarded."""
        self._sealed: deque[dict[Any, Any]] = deque()
        self._young: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """The value of a key as this unit sees it, or ABSENT. Raises: RowMismatch, StoreCorrupt."""
        kept = self.fresh.get(key, _UNKNOWN)
        if kept is _UNKNOWN:
            kept = self._young.get(key, _UNKNOWN)
            if kept is _UNKNOWN:
                kept = self._find(key)
        if self._is_shared or kept is ABSENT:
            return kept
        return self.values.decode(kept)

    def _find(self, key: Any) -> Any:
        kept = self._old.get(key, _UNKNOWN)
        if kept is _UNKNOWN:
            kept = next((unit[key] for unit in self._sealed if key in unit), _UNKNOWN)
        if kept is _UNKNOWN:
            raw = self._store.get(self.prefix + self.keys.to_store(key))
            if raw is None:
                return ABSENT
            kept = self._readable(key, raw)
        self._remember(key, kept)
        return kept

    def _readable(self, key: Any, raw: bytes) -> Any:
        try:
            value = self.values.decode(raw)
        except (ValueError, RecursionError) as error:
            table = self.prefix[:-1].decode()
            raise RowMismatch(f"the row {key!r} of table {table} cannot be read: {error}") from error
        return value if self.values.is_immutable else raw

    def _remember(self, key: Any, kept: Any) -> None:
        if len(self._young) >= self._generation_rows_max:
            self._old, self._young = self._young, {}
        self._young[key] = kept

    def put(self, key: Any, value: Any, guard: "KeyGuard") -> None:
        """Write a row into the open unit. Raises: ForeignKey, UnencodableValue."""
        self.values.check(value)
        if key not in self.fresh and key not in self._young:
            guard.check(self.keys.to_wire(key))
        # Encoded before it is noted: what cannot be encoded was not written, and cannot be taken back.
        kept = value if self._is_shared else self.values.encode(value)
        if self.journal is not None:
            self.journal.wrote(self.fresh, key)
        self.fresh[key] = kept

    def remove(self, key: Any, guard: "KeyGuard") -> None:
        """Delete a row in the open unit; nothing happens when there is none. Raises: ForeignKey."""
        guard.check(self.keys.to_wire(key))
        if self.journal is not None:
            self.journal.wrote(self.fresh, key)
        self.fresh[key] = ABSENT

    def drop(self) -> None:
        """Forget the open unit's writes."""
        self.fresh = {}

    def seal(self) -> dict[Any, Any]:
        """End the open unit's writes: they stay readable here, and are to be encoded by `encode`."""
        unit, self.fresh = self.fresh, {}
        if unit:
            self._sealed.appendleft(unit)
            if len(self._young) + len(unit) > self._generation_rows_max:
                self._old, self._young = self._young, {}
            # A stale row in _old is hidden by the one in _young until the next rotation drops it.
            self._young.update(unit)
        return unit

    def unseal(self, unit: dict[Any, Any]) -> None:
        """Forget the writes of the unit that was sealed last: it will not be committed."""
        if unit:
            assert self._sealed.popleft() is unit
            for key in unit:
                self._young.pop(key, None)
                self._old.pop(key, None)

    def encode(self, writes: Iterable[tuple[Any, Any]]) -> list[Row]:
        """Writes of a sealed unit as bytes. Raises: UnencodableValue."""
        prefix, to_store, encode = self.prefix, self.keys.to_store, self.values.encode
        if self.values.is_immutable:
            return [
                (prefix + to_store(key), None if kept is ABSENT else encode(kept)) for key, kept in writes
            ]
        return [(prefix + to_store(key), None if kept is ABSENT else kept) for key, kept in writes]

    def applied(self, unit: dict[Any, Any]) -> None:
        """The store has the oldest sealed unit now."""
        if unit and self._sealed.pop() is not unit:
            raise PositionError(
                "units must be applied in the order in which they were sealed",
                hint="This is a defect of headrace: please report it with the worker's log.",
            )

    def scan(self) -> Iterator[tuple[Any, Any]]:
        """Every row of this partition as this unit sees it, in key order; decoded afresh."""
        newest: dict[Any, Any] = {}
        for unit in (*reversed(self._sealed), self.fresh):
            newest.update(unit)
        end = self.prefix[:-1] + b"\1"
        snapshot = self._store.snapshot()
        try:
            merged = {raw_key[len(self.prefix) :]: raw for raw_key, raw in snapshot.scan(self.prefix, end)}
        finally:
            snapshot.close()
        for key, kept in newest.items():
            raw_key = self.keys.to_store(key)
            if kept is ABSENT:
                merged.pop(raw_key, None)
            else:
                merged[raw_key] = self.values.encode(kept) if self.values.is_immutable else kept
        for raw_key in sorted(merged):
            yield self.keys.from_store(raw_key), self.values.decode(merged[raw_key])


class KeyGuard:
    """Refuses keys that live in another partition than the task's."""

    def __init__(self, partitioner: Partitioner, partition: int, partitions: int) -> None:
        self._partitioner = partitioner
        self._partition = partition
        self._partitions = partitions

    def check(self, wire_key: bytes) -> None:
        """Raises: ForeignKey unless this record key belongs to the task's partition."""
        if self._partitions == 1:
            return
        home = self._partitioner.place(wire_key, self._partitions)
        if home != self._partition:
            raise ForeignKey(
                f"the key {wire_key[:80]!r} belongs to partition {home}, "
                f"and the event in hand is in partition {self._partition}"
            )
