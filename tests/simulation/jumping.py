"""Virtual time for a whole world: an event loop that jumps to the next moment when nothing is left to do."""

import asyncio
import selectors
from collections.abc import Mapping
from itertools import count
from typing import Any

from headrace.testing.virtual_clock import EPOCH_S, VirtualClock


class NobodyWakes(AssertionError):
    """Everybody waits, and no time will bring what they wait for."""


class _Jumping(selectors.BaseSelector):
    """Waits for no file: where a loop would sleep, time has passed already."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._files: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: object, events: int, data: object = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()  # type: ignore[attr-defined]
        self._files[number] = selectors.SelectorKey(fileobj, number, events, data)  # type: ignore[arg-type]
        return self._files[number]

    def unregister(self, fileobj: object) -> selectors.SelectorKey:
        return self._files.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())  # type: ignore[attr-defined]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NobodyWakes("nothing is left to do, and nobody waits for time to pass")
        self.passed_s += max(timeout, 0.0)
        return []

    def get_map(self) -> Mapping[int, selectors.SelectorKey]:  # type: ignore[override]
        return self._files


class _NumberedTask(asyncio.Task[Any]):
    """A task that hashes as its number: sets of tasks then have the same order in each run of a story."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class JumpingLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; then it is at once the moment for which the next one waits.

    So all waits of the product and of a test are virtual, their order is exact, and a world is
    quiet when time may pass. There are no threads and no files in it.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        numbers = count()
        self.set_task_factory(
            lambda loop, coroutine, **options: _NumberedTask(
                coroutine, number=next(numbers), loop=loop, **options
            )
        )

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.passed_s


class LoopClock(VirtualClock):
    """The time of a jumping loop, as workers ask for it."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float, *, whose: object = None) -> None:
        """Return when this much time has passed. Cancel: nothing is left."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        due = loop.create_future()
        timer = loop.call_later(seconds, _wake, due)
        try:
            await due
        finally:
            timer.cancel()

    async def until(self, passed_s: float) -> None:
        """Return at this moment of the loop."""
        await self.sleep(passed_s - self.monotonic())


_CLOCK = LoopClock()


async def time_passes(seconds: float) -> None:
    """Return when this much time of the jumping loop has passed."""
    await _CLOCK.sleep(seconds)


def _wake(due: "asyncio.Future[None]") -> None:
    if not due.done():
        due.set_result(None)
