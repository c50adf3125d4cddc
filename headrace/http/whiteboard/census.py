"""Counts the rows of every table, a bounded number at a time, and only while somebody looks."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from msgspec.structs import replace

from headrace.errors import NotOwner
from headrace.http.whiteboard.board import Board, TableCard
from headrace.tables.view import FrozenView, PartitionView, ViewState

ROWS_PER_STEP = 20_000
_ROWS_PER_TURN = 64

FindView = Callable[[str, int], PartitionView | None]


@dataclass(slots=True)
class _Count:
    """Rows of one table in one partition."""

    rows: int | None = None
    """As of the last time they were all counted."""
    so_far: int = 0
    after: bytes = b""
    """The last key that was counted; empty: nothing yet."""


class Census:
    """Goes over the tables again and again; a table that is larger than a step is counted in several.

    The store's own estimate is no help: it counts overwritten rows, and all tables of a group.
    """

    def __init__(self, view: FindView, *, rows_per_step: int = ROWS_PER_STEP) -> None:
        self._view = view
        self._rows_per_step = rows_per_step
        self._counts: dict[tuple[str, str, int], _Count] = {}
        self._next = 0
        self._stepping = asyncio.Lock()

    async def step(self, board: Board) -> None:
        """Count on, in a thread, up to the bound of a step or once over all tables."""
        async with self._stepping:
            places = list(_places(board))
            self._counts = {place: self._counts.get(place) or _Count() for place in places}
            budget = self._rows_per_step
            for _ in range(len(places)):
                place = places[self._next % len(places)]
                budget -= await self._count(place, budget)
                if budget <= 0:
                    return
                self._next += 1

    async def _count(self, place: tuple[str, str, int], budget: int) -> int:
        """Count rows of one table and partition on; how many."""
        group, table, number = place
        count = self._counts[place]
        view = self._view(group, number)
        if view is None or view.state is not ViewState.SERVING:
            self._counts[place] = _Count()
            return 0
        prefix = table.encode() + b"\0"
        start = count.after + b"\0" if count.after else prefix
        frozen = view.freeze()
        loop = asyncio.get_running_loop()
        counting = loop.run_in_executor(None, _counted, frozen, start, prefix[:-1] + b"\1", budget)
        try:
            # A cancel must not leave the snapshot to nobody: the thread closes it when it ends.
            rows, last = await asyncio.shield(counting)
        except NotOwner:  # closed meanwhile: it is somebody else's to count
            self._counts[place] = _Count()
            return 0
        count.so_far += rows
        count.after = last
        if rows < budget:
            count.rows, count.so_far, count.after = count.so_far, 0, b""
        return rows

    def filled(self, board: Board) -> Board:
        """The board with the counts as they are."""
        return replace(board, tables=tuple(self._filled(board, table) for table in board.tables))

    def _filled(self, board: Board, table: TableCard) -> TableCard:
        counts = [
            self._counts.get((table.group, table.name, card.number), _Count())
            for card in board.partitions
            if card.group == table.group and card.state == "serving"
        ]
        if not any(count.rows is not None or count.after for count in counts):
            return table
        return replace(
            table,
            rows=sum(count.so_far if count.rows is None else count.rows for count in counts),
            is_counted=all(count.rows is not None for count in counts),
        )


def _places(board: Board) -> Iterator[tuple[str, str, int]]:
    for table in board.tables:
        for card in board.partitions:
            if card.group == table.group and card.state != "elsewhere":
                yield table.group, table.name, card.number


def _counted(frozen: FrozenView, start: bytes, end: bytes, rows_max: int) -> tuple[int, bytes]:
    """How many rows there are up to a bound, and the last key; closes the snapshot."""
    rows, last = 0, b""
    with closing(frozen), closing(frozen.scan(start, end)) as found:  # type: ignore[type-var]
        for key, _ in found:
            rows, last = rows + 1, key
            if rows >= rows_max:
                break
            if rows % _ROWS_PER_TURN == 0:
                # Hands the interpreter to the loop, which would else wait up to 5 ms for it.
                time.sleep(0)
    return rows, last
