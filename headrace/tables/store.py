"""The store as everything above it sees it: committed rows of one task, and a mark that travels with them.

Implementations pass one contract suite (tests/contract/test_store.py): rocksdb and memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from headrace.tables.damage import Damage

Row = tuple[bytes, bytes | None]
"""Store key and row bytes; None: the row is deleted."""


class Snapshot(Protocol):
    """The rows as they were at one instant; other threads may read it while the store is written."""

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt."""

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order (end None: to the last).

        Raises: StoreCorrupt; a scan is never cut short in silence (the iterator's own status is
        checked when it ends).
        """

    def close(self) -> None:
        """Let go of it. Closing the store ends it, too: later reads raise NotOwner."""


class Store(Protocol):
    """One writer (the task), many readers. Keys are not empty and do not begin with a zero byte."""

    @property
    def is_in_memory(self) -> bool:
        """Whether closing waits for no disk, and need not be done in a thread."""

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt."""

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        """Apply rows, and replace the mark if one is given, all in one atomic batch.

        Units: keep a batch to about 1,000 rows; the loop stands still meanwhile.
        Raises: StoreCorrupt; OSError when the disk refuses.
        """

    @property
    def mark(self) -> bytes | None:
        """The mark of the last write that carried one; None in a new store."""

    def snapshot(self) -> Snapshot:
        """The rows as of now."""

    def rows_estimate(self) -> int:
        """About how many rows there are."""

    def size_bytes(self) -> int:
        """About how much the rows take."""

    @property
    def damage(self) -> Damage:
        """What was found wrong with it, by any read or write. Once there is something, the engine opens
        the store no more until it is quarantined."""

    def close(self) -> None:
        """Flush and let go of every file; a second call does nothing."""


class StoreEngine(Protocol):
    """Opens the stores of one worker, which share its caches."""

    @property
    def is_in_memory(self) -> bool:
        """Whether opening waits for no disk, and need not be done in a thread."""

    def open(self, group: str, partition: int) -> Store:
        """The store of one task, created if need be. Raises: StoreInUse, StoreCorrupt."""

    def open_read_only(self, group: str, partition: int) -> Store | None:
        """The same beside a running worker, as of its last flush or write; None when there is none."""

    def held(self, group: str) -> Mapping[int, int]:
        """Partitions of the group that have a store here, and when each was last written, in ms.

        The time is a hint, by the clock of this machine; 0 where it is not known.
        """

    def drop(self, group: str, partition: int) -> None:
        """Remove a store that is not open, with all it holds."""

    def quarantine(self, group: str, partition: int, time_s: float) -> Path | None:
        """Move a store that is not open aside, so that the next `open` makes a new one.

        The result is where its files are now; None where there are none. Raises: StoreInUse, OSError.
        """

    def close(self) -> None:
        """Let go of what the stores share."""
