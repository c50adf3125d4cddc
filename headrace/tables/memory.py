"""Stores in memory: for tests, and for tables small enough to be rebuilt at every start."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from headrace.errors import NotOwner, StoreInUse
from headrace.tables.damage import Damage
from headrace.tables.store import Row, Snapshot, Store

_ABSENT = object()


class MemoryEngine:
    """The stores of one worker, kept for as long as the engine is; a re-opened store has its rows."""

    is_in_memory = True

    def __init__(self) -> None:
        self._stores: dict[tuple[str, int], MemoryStore] = {}

    def open(self, group: str, partition: int) -> Store:
        """The store of one task, created if need be. Raises: StoreInUse."""
        place = (group, partition)
        before = self._stores.get(place)
        if before is not None and not before.is_closed:
            raise StoreInUse(f"the store of partition {partition} of group {group} is open already")
        if before is not None:
            before.damage.check()
        store = self._stores[place] = MemoryStore() if before is None else before.reopened()
        return store

    def open_read_only(self, group: str, partition: int) -> Store | None:
        """A frozen copy of the store as it is now; None when there is none."""
        store = self._stores.get((group, partition))
        return None if store is None else store.reopened()

    def held(self, group: str) -> Mapping[int, int]:
        """Partitions of the group that have a store here, and when each was last written, in ms.

        The time is a hint, by the clock of this machine; 0 where it is not known.
        """
        return dict.fromkeys((partition for name, partition in self._stores if name == group), 0)

    def drop(self, group: str, partition: int) -> None:
        """Remove a store that is not open, with all it holds. Raises: StoreInUse."""
        store = self._stores.get((group, partition))
        if store is not None and not store.is_closed:
            raise StoreInUse(f"the store of partition {partition} of group {group} is open")
        self._stores.pop((group, partition), None)

    def quarantine(self, group: str, partition: int, time_s: float) -> Path | None:
        """Forget a store that is not open: there are no files to look at. Raises: StoreInUse."""
        self.drop(group, partition)
        return None

    def close(self) -> None:
        """Close the stores that are still open and forget all rows."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()


class MemoryStore:
    """A dict that is sorted when it is scanned."""

    is_in_memory = True

    def __init__(self) -> None:
        self.is_closed = False
        self.damage = Damage()
        self._rows: dict[bytes, bytes] = {}
        self._bytes = 0
        self._mark: bytes | None = None
        self._snapshots: set[MemorySnapshot] = set()

    def reopened(self) -> "MemoryStore":
        """A store of its own with the same rows and mark."""
        store = MemoryStore()
        store._rows, store._bytes, store._mark = dict(self._rows), self._bytes, self._mark
        return store

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: NotOwner once closed."""
        return self._alive().get(key)

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        """Apply rows, and replace the mark if one is given, in one step. Raises: NotOwner once closed."""
        kept = self._alive()
        for key, row in rows:
            before = kept.get(key)
            # Into the snapshots first: a reader looks there after it looked at the rows.
            for snapshot in tuple(self._snapshots):
                snapshot.remember(key, before)
            if before is not None:
                self._bytes -= len(key) + len(before)
            if row is None:
                kept.pop(key, None)
            else:
                kept[key] = row
                self._bytes += len(key) + len(row)
        if mark is not None:
            self._mark = mark

    @property
    def mark(self) -> bytes | None:
        """The mark of the last write that carried one; None in a new store."""
        return self._mark

    def snapshot(self) -> Snapshot:
        """The rows as of now; it ends with the store, later reads of it raise NotOwner."""
        snapshot = MemorySnapshot(self._alive(), self._snapshots)
        self._snapshots.add(snapshot)
        return snapshot

    def rows_estimate(self) -> int:
        """How many rows there are."""
        return len(self._alive())

    def size_bytes(self) -> int:
        """How many bytes keys and rows have."""
        self._alive()
        return self._bytes

    def close(self) -> None:
        """End its snapshots and take no more writes; a second call does nothing."""
        self.is_closed = True
        for snapshot in tuple(self._snapshots):
            snapshot.close()

    def _alive(self) -> dict[bytes, bytes]:
        if self.is_closed:
            raise NotOwner("the store is closed")
        return self._rows


class MemorySnapshot:
    """The rows at one instant: the store's own dict, and what was overwritten in it since.

    Reading needs no lock beside one writing thread: the writer notes the old row here before it
    replaces it, and a reader looks at the rows first and here second.
    """

    def __init__(self, rows: dict[bytes, bytes], siblings: "set[MemorySnapshot]") -> None:
        self._rows = rows
        self._before: dict[bytes, bytes | None] = {}
        self._siblings = siblings
        self._is_closed = False

    def remember(self, key: bytes, row: bytes | None) -> None:
        """Keep a row that is about to be replaced; the first one of a key is the snapshot's."""
        self._before.setdefault(key, row)

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: NotOwner once closed."""
        now = self._rows.get(key)
        before = self._before.get(key, _ABSENT)
        # Asked last: once closed, the writer notes nothing here any more.
        if self._is_closed:
            raise NotOwner("the snapshot is closed")
        return now if before is _ABSENT else before  # type: ignore[return-value]

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order. Raises: NotOwner once closed."""
        # In this order: a key that is deleted in between is in the second list, if not in the first.
        keys = {*list(self._rows), *list(self._before)}
        for key in sorted(key for key in keys if key >= start and (end is None or key < end)):
            row = self.get(key)
            if row is not None:
                yield key, row
        if self._is_closed:
            raise NotOwner("the snapshot is closed")

    def close(self) -> None:
        """Let go of it; scans under way end with NotOwner."""
        self._is_closed = True
        self._siblings.discard(self)
