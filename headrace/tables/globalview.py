"""A global table as every worker has it: all of its partitions, followed, and how far they are together."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from heapq import merge

from headrace.events.partitioner import Partitioner
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.tables.view import FrozenView, PartitionView, ViewState


class GlobalView:
    """All partitions of one global group, each as readers see it, and the position of the whole.

    What is not served at the moment counts for nothing: it is at 0, and has seen nothing.
    """

    may_be_kept = True
    """Whether readers may keep what they decoded until the next version."""

    def __init__(
        self,
        group: str,
        inputs: Iterable[str],
        partitions: int,
        partitioner: Partitioner = Partitioner.MURMUR2,
    ) -> None:
        self.group = group
        self.inputs = frozenset(inputs)
        """Topics that the table is folded from."""
        self.partitions = tuple(PartitionView(group, number) for number in range(partitions))
        self.version = 0
        """Rises whenever rows, position or state change."""
        self.changed = asyncio.Event()
        """Set at the next change; a new one takes its place then.

        Take it in the same loop turn in which you looked, then await it, then look again.
        """
        self.shown: dict[int, int] = {}
        """By partition: the changelog offset up to which its rows are shown, once they are."""
        self.ends: dict[int, int] = {}
        """By partition: the end that the changelog had when it was last read."""
        self._partitioner = partitioner
        self._vectors = (-1, Position(), NOTHING_SEEN)

    @property
    def position(self) -> Position:
        """How far the rows are in every partition of the inputs."""
        return self._merged()[1]

    @property
    def seen(self) -> Seen:
        """What the rows contain beyond that, as the stamps of their events tell."""
        return self._merged()[2]

    @property
    def is_served(self) -> bool:
        """Whether all of it can be read."""
        return all(view.state is ViewState.SERVING for view in self.partitions)

    async def until_served(self) -> None:
        """Return once all of it can be read."""
        while not self.is_served:
            await self.changed.wait()

    def get(self, wire_key: bytes, store_key: bytes) -> bytes | None:
        """The committed row bytes of a key. Raises: StillRecovering, NotOwner, StoreCorrupt."""
        partition = self._partitioner.place(wire_key, len(self.partitions))
        return self.partitions[partition].get(store_key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Committed rows with start <= key < end as of now, in key order. Raises: as `get`."""
        frozen: list[FrozenView] = []
        with ExitStack() as snapshots:
            for view in self.partitions:
                frozen.append(view.freeze())
                snapshots.callback(frozen[-1].close)
            yield from merge(*(rows.scan(start, end) for rows in frozen))

    def behind(self) -> dict[int, int]:
        """By partition: changelog offsets that were there when it was last read, and are not shown."""
        return {n: max(0, self.ends.get(n, 0) - self.shown.get(n, 0)) for n in range(len(self.partitions))}

    def moved(self) -> None:
        """Tell whoever waits that a partition has changed."""
        self.version += 1
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _merged(self) -> tuple[int, Position, Seen]:
        if self._vectors[0] != self.version:
            offsets = {TopicPartition(t, view.partition): 0 for t in self.inputs for view in self.partitions}
            seen = NOTHING_SEEN
            for view in self.partitions:
                if view.state is ViewState.SERVING:
                    offsets.update(view.position)
                    seen = seen.merge(view.seen)
            self._vectors = (self.version, Position(offsets), seen)
        return self._vectors
