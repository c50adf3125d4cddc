"""Rows that somebody watches: what they were, and every write to them since, with the event that made it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.events.position import Position

WRITES_MAX = 4_096
"""A watched row that is written more often than this is not watched on."""


class Write(NamedTuple):
    """One write of a row by one event."""

    topic: str
    offset: int
    row: bytes | None
    """The row as it was left; None: deleted."""


class Version(NamedTuple):
    """What one committed unit made of a watched row."""

    before: Position
    """The position in front of the unit."""
    after: Position
    writes: tuple[Write, ...] | None
    """In the order in which they were made; None: it is not known which events made them."""
    row: bytes | None
    """The row as the unit left it."""


class WriteNotes:
    """What the open unit writes to rows that are watched."""

    __slots__ = ("_began", "_unclear", "_writes")

    def __init__(self, began: int) -> None:
        self._began = began
        self._writes: dict[bytes, list[Write]] = {}
        self._unclear: set[bytes] = set()

    def wrote(self, store_key: bytes, write: Write) -> None:
        """An event has written a row that is watched."""
        self._writes.setdefault(store_key, []).append(write)

    def blur(self, store_key: bytes) -> None:
        """A row was written, and which event's write stays is not known before the unit ends."""
        self._unclear.add(store_key)

    def of(self, store_key: bytes, opened: int, row: bytes | None) -> tuple[Write, ...] | None:
        """The writes that left this row, as whoever began to watch at `opened` may know them."""
        writes = self._writes.get(store_key)
        # What began to be watched while the unit was open may have been written before.
        if opened > self._began or not writes or store_key in self._unclear or writes[-1].row != row:
            return None
        return tuple(writes)


class RowWatch:
    """One row from an instant on."""

    __slots__ = ("_writes_left", "is_lost", "opened", "position", "row", "store_key", "versions")

    def __init__(self, store_key: bytes, row: bytes | None, position: Position, opened: int) -> None:
        self.store_key = store_key
        self.row = row
        """The row as it was when the watch began."""
        self.position = position
        """What it contained then."""
        self.opened = opened
        self.versions: list[Version] = []
        """What units made of it since, oldest first."""
        self.is_lost = False
        """Whether writes may have been missed: the partition was given up, or there were too many."""
        self._writes_left = WRITES_MAX

    def add(self, version: Version) -> None:
        """Note what one more unit made of it."""
        self._writes_left -= len(version.writes or ()) or 1
        if self._writes_left < 0:
            self.lose()
        elif not self.is_lost:
            self.versions.append(version)

    def lose(self) -> None:
        """Give up: what is written from here on is not noted."""
        self.is_lost = True
        self.versions.clear()


class PartitionWatch:
    """The rows of one partition that are watched; next to nothing is done for it while there are none."""

    def __init__(self) -> None:
        self._opened = 0
        self._keys: dict[bytes, dict[Any, bytes]] = {}
        self._rows: dict[bytes, list[RowWatch]] = {}

    def keys_of(self, row_prefix: bytes) -> Mapping[Any, bytes]:
        """The keys of a table that are watched, each with its store key: always as of now."""
        return self._keys.setdefault(row_prefix, {})

    def open(
        self, row_prefix: bytes, key: Any, store_key: bytes, row: bytes | None, position: Position
    ) -> RowWatch:
        """Watch a row that is this one at this position, which must be that of now."""
        self._opened += 1
        watch = RowWatch(store_key, row, position, self._opened)
        self._keys.setdefault(row_prefix, {})[key] = store_key
        self._rows.setdefault(store_key, []).append(watch)
        return watch

    def close(self, row_prefix: bytes, key: Any, watch: RowWatch) -> None:
        """Watch it no more."""
        kept = [each for each in self._rows.get(watch.store_key, ()) if each is not watch]
        if kept:
            self._rows[watch.store_key] = kept
        elif self._rows.pop(watch.store_key, None) is not None:
            self._keys[row_prefix].pop(key, None)

    def begin(self) -> WriteNotes:
        """Notes for a unit that is opened now."""
        return WriteNotes(self._opened)

    def published(
        self, layer: Mapping[bytes, bytes | None], before: Position, after: Position, notes: WriteNotes | None
    ) -> None:
        """A unit was committed that wrote these rows, and led from one position to the other."""
        if not self._rows:
            return
        for store_key in self._rows.keys() & layer.keys():
            row = layer[store_key]
            for watch in self._rows[store_key]:
                writes = notes.of(store_key, watch.opened, row) if notes is not None else None
                watch.add(Version(before, after, writes, row))

    def lose(self) -> None:
        """The partition is given up: all that is watched is lost."""
        for watches in self._rows.values():
            for watch in watches:
                watch.lose()
