"""A partition as readers see it: committed rows with the position they stand for, together or not at all."""

import asyncio
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from headrace.errors import HeadraceError, NotOwner, PartitionStopped, StillRecovering, TaskFailed
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.tables.store import Snapshot, Store
from headrace.tables.waiting import Waiter, Waiters
from headrace.tables.watch import PartitionWatch, WriteNotes

Layer = Mapping[bytes, bytes | None]
"""Rows of one committed unit that the store does not have yet; None: deleted."""

_ABSENT = object()


class ViewState(Enum):
    """What a reader may expect of a partition here."""

    RESTORING = "restoring"
    SERVING = "serving"
    STOPPED = "stopped"
    """It stands in front of an event that is refused."""
    CLOSED = "closed"


class HeldInput(NamedTuple):
    """An input whose next event waits until other inputs have come as far as its sender had seen."""

    since: float
    """When the input was found to wait, in seconds since the epoch."""
    offset: int
    """Of the event that waits."""
    waits_for: Mapping[TopicPartition, int]
    """Next offsets that have to be reached."""


class PartitionView:
    """Committed rows of one task: the store, and over it the units that are still being applied.

    `publish` makes a unit's rows and its position visible in one step of the event loop.
    """

    def __init__(self, group: str, partition: int) -> None:
        self.group = group
        self.partition = partition
        self.state = ViewState.RESTORING
        self.served = asyncio.Event()
        """Set while the partition answers."""
        self.changed = asyncio.Event()
        """Set when state, rows or position change next; a new one takes its place then.

        Take it in the same loop turn in which you looked, then await it, then look again.
        """
        self.position = Position()
        """What the rows contain: next offsets of the task's inputs."""
        self.seen = NOTHING_SEEN
        """What the rows contain beyond that, as the stamps of their events tell."""
        self.input_ends: dict[TopicPartition, int] = {}
        """Where each input ended when it was last read: what the position lags behind."""
        self.held: Mapping[TopicPartition, HeldInput] = {}
        """Inputs that wait for others."""
        self.replay_offset_next = 0
        """How far the task is in its hidden replay input, which its position does not name."""
        self.restore_start = 0
        self.restore_offset = 0
        self.restore_end = 0
        self.stopped_by: HeadraceError | None = None
        """What the partition stands still for."""
        self.watched_rows = PartitionWatch()
        """Rows of which every write is noted."""
        self._store: Store | None = None
        self._layers: tuple[Layer, ...] = ()  # newest first
        self._waiters = Waiters()

    @property
    def is_settled(self) -> bool:
        """Whether it answers, or stands still until somebody has corrected what refuses an event."""
        return self.state in (ViewState.SERVING, ViewState.STOPPED)

    def serve(self, store: Store, position: Position, seen: Seen = NOTHING_SEEN) -> None:
        """Begin to answer, from a store that stands at this position."""
        self._store, self._layers = store, ()
        self.position, self.seen = position, seen
        self.state = ViewState.SERVING
        self.served.set()
        self._wake()

    def close(self, state: ViewState = ViewState.CLOSED, *, failure: HeadraceError | None = None) -> None:
        """Stop answering, because of this failure if there is one; the store may be closed right after."""
        self.state, self._store, self._layers, self.held = state, None, (), {}
        self.watched_rows.lose()
        self.served.clear()
        self._wake()
        self._waiters.refuse(self._unserved if failure is None else lambda: self._failed(failure))

    def stop(self, error: HeadraceError) -> None:
        """Stop answering: the partition stands still because of this error."""
        self.stopped_by = error
        self.close(ViewState.STOPPED)

    def publish(
        self, layer: Layer, position: Position, seen: Seen = NOTHING_SEEN, notes: WriteNotes | None = None
    ) -> None:
        """Show a committed unit: its rows and the position they stand for; `notes` are of rows watched."""
        if layer:
            self.watched_rows.published(layer, self.position, position, notes)
            self._layers = (layer, *self._layers)
        self.position, self.seen = position, seen
        self._wake()

    def advance(self, position: Position) -> None:
        """Show progress over events that wrote nothing."""
        self.position = position
        self._wake()

    def retire(self, layer: Layer) -> None:
        """Forget a layer whose rows the store has now."""
        self._layers = tuple(kept for kept in self._layers if kept is not layer)

    def lacking(self, needed: Position) -> Mapping[TopicPartition, int]:
        """What of these next offsets the rows do not contain, as far as they are of the task's inputs.

        Raises: StillRecovering, NotOwner, PartitionStopped: what is not served cannot be judged.
        """
        self._serving_store()
        position = self.position
        return {place: offset for place, offset in needed.items() if position.get(place, offset) < offset}

    def waiter(self, needed: Mapping[TopicPartition, int]) -> Waiter:
        """Done with true in the loop turn in which the rows contain what is before these offsets.

        It fails at once when the partition stops answering: TaskFailed, StillRecovering, NotOwner,
        PartitionStopped. Raises: the same, when it does not answer now.
        """
        self._serving_store()
        return self._waiters.add(needed, self.position)

    async def reached(self, needed: Mapping[TopicPartition, int]) -> None:
        """Return when the rows contain what is before these next offsets of the task's inputs.

        Cancel: nothing is left. Raises: as `waiter`.
        """
        await self.waiter(needed)

    def get(self, key: bytes) -> bytes | None:
        """The committed row bytes of a store key. Raises: StillRecovering, NotOwner, StoreCorrupt."""
        store = self._serving_store()
        for layer in self._layers:
            row = layer.get(key, _ABSENT)
            if row is not _ABSENT:
                return row  # type: ignore[return-value]
        return store.get(key)

    def freeze(self) -> "FrozenView":
        """All committed rows as of now, for reading elsewhere while units go on."""
        store = self._serving_store()
        return FrozenView(store.snapshot(), self._layers, self.position, self.seen)

    def rows_estimate(self) -> int:
        """About how many rows there are."""
        return self._serving_store().rows_estimate()

    def size_bytes(self) -> int:
        """About how much the rows take."""
        return self._serving_store().size_bytes()

    def _wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        self._waiters.moved(self.position)

    def _serving_store(self) -> Store:
        if self._store is None:
            raise self._unserved()
        return self._store

    def _unserved(self) -> HeadraceError:
        where = f"partition {self.partition} of group {self.group}"
        if self.state is ViewState.RESTORING:
            return StillRecovering(f"{where} is being restored")
        if self.stopped_by is not None and self.state is ViewState.STOPPED:
            return PartitionStopped(f"{where} stands still: {type(self.stopped_by).__name__}")
        return NotOwner(f"{where} is not served by this worker")

    def _failed(self, failure: HeadraceError) -> TaskFailed:
        where = f"partition {self.partition} of group {self.group}"
        return TaskFailed(f"the task of {where} failed while it was waited for", failure=failure)


class FrozenView:
    """One partition's rows at one position, safe to read from another thread."""

    def __init__(
        self, snapshot: Snapshot, layers: tuple[Layer, ...], position: Position, seen: Seen = NOTHING_SEEN
    ) -> None:
        self._snapshot = snapshot
        self._layers = layers
        self.position = position
        self.seen = seen

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end in key order. Raises: StoreCorrupt."""
        newest: dict[bytes, bytes | None] = {}
        for layer in reversed(self._layers):
            newest.update(layer)
        fresh = sorted(row for row in newest.items() if row[0] >= start and (end is None or row[0] < end))
        at = 0
        for key, row in self._snapshot.scan(start, end):
            while at < len(fresh) and fresh[at][0] < key:
                if (value := fresh[at][1]) is not None:
                    yield fresh[at][0], value
                at += 1
            if at < len(fresh) and fresh[at][0] == key:
                continue
            yield key, row
        for key, value in fresh[at:]:
            if value is not None:
                yield key, value

    def close(self) -> None:
        """Let go of the snapshot."""
        self._snapshot.close()
