"""Reads rows of partitions for a scan: on snapshots, in a thread, few at once."""

import asyncio
import heapq
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Generic, NamedTuple, TypeVar

from headrace.events.position import Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.http.part import Part, take_part
from headrace.http.problems import problem_of
from headrace.http.query import RowRange
from headrace.http.source import ServedTable
from headrace.tables.view import FrozenView, PartitionView

T = TypeVar("T")

_AT_ONCE = 4


class Taken(NamedTuple, Generic[T]):
    """What was read, and what it contains."""

    result: T
    position: Position
    seen: Seen
    frozen: Sequence[FrozenView]


class PartReader:
    """Reads parts of one table."""

    def __init__(self, table: ServedTable) -> None:
        self._table = table
        # Who waits for a turn holds no snapshot: a snapshot keeps old files of the store alive.
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(
        self, views: Sequence[PartitionView], wanted: RowRange, finish: Callable[[Part], T]
    ) -> Taken[T]:
        """A part of these partitions, as `finish` makes something of it in the thread that has read it.

        Cancel: the thread is told to end, and closes the snapshots when it does. Raises: as
        `PartitionView.freeze`, and what `finish` raises.
        """
        async with self._turns:
            return await self._read(views, wanted, finish)

    async def _read(
        self, views: Sequence[PartitionView], wanted: RowRange, finish: Callable[[Part], T]
    ) -> Taken[T]:
        snapshots = ExitStack()
        try:
            frozen = [_frozen(view, snapshots) for view in views]
            position, seen = Position(), NOTHING_SEEN
            for view in frozen:
                position, seen = position.merge(view.position), seen.merge(view.seen)
            is_abandoned = threading.Event()

            def run() -> T:
                return finish(self._part(snapshots, frozen, wanted, is_abandoned))

            # Not `to_thread`: a cancel could take the call out of the queue, and nobody would close.
            reading = asyncio.get_running_loop().run_in_executor(None, run)
        except BaseException:
            snapshots.close()
            raise
        try:
            return Taken(await asyncio.shield(reading), position, seen, frozen)
        except asyncio.CancelledError:
            is_abandoned.set()
            reading.add_done_callback(_retrieve)
            raise

    def _part(
        self,
        snapshots: ExitStack,
        frozen: Sequence[FrozenView],
        wanted: RowRange,
        is_abandoned: threading.Event,
    ) -> Part:
        """Runs in a thread and closes the snapshots in any case."""
        merged = heapq.merge(*(view.scan(wanted.start, wanted.end) for view in frozen))
        with snapshots, closing(merged) as rows:
            return take_part(rows, self._table.renewed, wanted.rows_max, is_abandoned)


def _frozen(view: PartitionView, snapshots: ExitStack) -> FrozenView:
    frozen = view.freeze()
    snapshots.callback(frozen.close)
    return frozen


def _retrieve(reading: "asyncio.Future[T]") -> None:
    """Nobody waits for an abandoned reading any more; what it failed with is still logged."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        problem_of(error)
