"""How long requests wait: each under one timer of its own, all of them counted."""

import asyncio
from types import TracebackType
from typing import Any, Self

from headrace.clock import Clock, Timer
from headrace.errors import HeadraceError, NotOwner, TooManyWaiters
from headrace.tables.waiting import Waiter


class WaitingRoom:
    """All requests of a worker that wait."""

    def __init__(self, clock: Clock, places_max: int) -> None:
        self.clock = clock
        self._places_max = places_max
        self._waiting: dict[Patience, None] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Send everybody away who waits, and whoever comes from now on; the worker stops."""
        self._is_closed = True
        for patience in [*self._waiting]:
            patience.refuse(_stopping())

    def enter(self, patience: "Patience") -> None:
        """Take a request in. Raises: TooManyWaiters, NotOwner when the worker stops."""
        if self._is_closed:
            raise _stopping()
        if len(self._waiting) >= self._places_max:
            raise TooManyWaiters(f"{len(self._waiting)} reads wait for a position already")
        self._waiting[patience] = None

    def leave(self, patience: "Patience") -> None:
        """Let a request go."""
        self._waiting.pop(patience, None)


class Patience:
    """How long one request waits, whatever for; its timer is armed when it first has to wait.

    Use it as a context: at its end nothing is left.
    """

    def __init__(self, room: WaitingRoom, seconds: float) -> None:
        self._room = room
        self._seconds = seconds
        self._timer: Timer | None = None
        self._step: Waiter | None = None
        self._refusal: HeadraceError | None = None
        self.is_over = seconds <= 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over, self._step = True, None
        if self._timer is not None:
            self._timer.cancel()
            self._room.leave(self)

    async def until(self, step: Waiter) -> bool:
        """Whether the step is done before the time is over.

        Cancel: the step is cancelled. Raises: what the step fails with, or the request is refused
        with; TooManyWaiters.
        """
        if self._refusal is not None:
            raise self._refusal
        if step.done():
            return step.result()
        if self.is_over:
            return False
        if self._timer is None:
            self._room.enter(self)
            self._timer = self._room.clock.call_later(self._seconds, self._run_out)
        self._step = step
        return await step

    async def until_answered(self, answer: "asyncio.Future[Any]") -> bool:
        """Whether an answer that others wait for, too, is there in time. Raises: as `until`."""
        step: Waiter = asyncio.get_running_loop().create_future()
        # Not removed when the time is over: that would look through all who wait for this answer.
        answer.add_done_callback(lambda _: None if step.done() else step.set_result(True))
        return answer.done() or await self.until(step)

    def refuse(self, error: HeadraceError) -> None:
        """End the waiting with an error."""
        self._refusal = error
        if self._step is not None and not self._step.done():
            self._step.set_exception(error)

    def _run_out(self) -> None:
        self.is_over = True
        if self._step is not None and not self._step.done():
            self._step.set_result(False)


def _stopping() -> NotOwner:
    return NotOwner("this worker stops", hint="Ask again: another worker answers.")
