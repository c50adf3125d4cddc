"""Who waits until a partition has come this far, in the order in which they will be answered."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count

from headrace.errors import HeadraceError
from headrace.events.position import Position, TopicPartition

_ANSWERS_PER_CALL = 256
"""More waiters than these are answered in several calls, so that none holds the loop."""
_SWEEP_AT_LEAST = 64
"""Fewer entries than these are not worth looking through for waiters that are gone."""

Waiter = asyncio.Future[bool]
"""Done with true when the position is reached. Whoever waits may end it before, and is then forgotten."""

_Entry = tuple[int, int, Waiter, Mapping[TopicPartition, int]]
"""Next offset that is waited for, who came first, the waiter, and all that it waits for."""


class Waiters:
    """A heap for each place: progress costs what it resolves, and standing still costs nothing.

    A waiter is in one heap at a time, that of the first place at which something is missing.
    """

    def __init__(self) -> None:
        self._heaps: dict[TopicPartition, list[_Entry]] = {}
        self._entries = 0
        """Those in the heaps, also of waiters that are gone."""
        self._sweep_at = _SWEEP_AT_LEAST
        self._refused: deque[tuple[list[_Entry], Callable[[], HeadraceError]]] = deque()
        self._position = Position()
        self._turns = count()
        self._going_on: asyncio.Handle | None = None

    def __len__(self) -> int:
        return self._entries

    def add(self, needed: Mapping[TopicPartition, int], position: Position) -> Waiter:
        """Wait for these next offsets, from this position on."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if self._entries >= self._sweep_at:
            self._sweep()
        self._put(next(self._turns), waiter, needed, position)
        return waiter

    def moved(self, position: Position) -> None:
        """Answer whoever waits for no more than this."""
        self._position = position
        if self._entries and self._going_on is None:
            self._answer()

    def refuse(self, error: Callable[[], HeadraceError]) -> None:
        """Answer everybody with an error; each gets one of its own."""
        if not self._entries:
            return
        self._refused.extend((heap, error) for heap in self._heaps.values())
        self._heaps, self._entries = {}, 0
        if self._going_on is None:
            self._answer()

    def _put(
        self, turn: int, waiter: Waiter, needed: Mapping[TopicPartition, int], position: Position
    ) -> None:
        for place, offset in needed.items():
            if position.get(place, 0) < offset:
                heapq.heappush(self._heaps.setdefault(place, []), (offset, turn, waiter, needed))
                self._entries += 1
                return
        waiter.set_result(True)

    def _answer(self) -> None:
        self._going_on = None
        left = self._answer_refused(_ANSWERS_PER_CALL)
        for place in [*self._heaps]:
            left = self._answer_at(place, left)
        if not left:
            self._going_on = asyncio.get_running_loop().call_soon(self._answer)

    def _answer_refused(self, left: int) -> int:
        while left and self._refused:
            entries, error = self._refused[0]
            if not entries:
                self._refused.popleft()
                continue
            waiter = entries.pop()[2]
            left -= 1
            if not waiter.done():
                waiter.set_exception(error())
        return left

    def _answer_at(self, place: TopicPartition, left: int) -> int:
        heap, reached = self._heaps[place], self._position.get(place, 0)
        while left and heap and heap[0][0] <= reached:
            _, turn, waiter, needed = heapq.heappop(heap)
            self._entries -= 1
            left -= 1
            if not waiter.done():
                self._put(turn, waiter, needed, self._position)
        if not heap:
            del self._heaps[place]
        return left

    def _sweep(self) -> None:
        """Forget waiters that are gone; done so rarely that each of them is looked at about once."""
        for place, heap in [*self._heaps.items()]:
            kept = [entry for entry in heap if not entry[2].done()]
            heapq.heapify(kept)
            self._heaps[place] = kept
            self._entries -= len(heap) - len(kept)
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * self._entries)
