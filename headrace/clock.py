"""Time as everything above it sees it: the system's, or one that a test moves."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Let it not come; without effect once it has."""


class Clock(Protocol):
    """Tells the time and waits in it."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some instant; never falls."""

    async def sleep(self, seconds: float) -> None:
        """Return when this long has passed. Cancel: nothing is left."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call a function once this long has passed, unless the timer is cancelled before."""


class SystemClock:
    """The machine's time."""

    # The functions themselves: one call less for each event that is sent.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Return when this long has passed."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call a function once this long has passed."""
        return asyncio.get_running_loop().call_later(seconds, call)


SYSTEM_CLOCK = SystemClock()


async def is_set_within(event: asyncio.Event, timeout_s: float, clock: Clock) -> bool:
    """Wait for an event, at most this long; whether it was set. Cancel: nothing is left."""
    if event.is_set():
        return True
    waiting = asyncio.create_task(event.wait(), name="awaited event")
    limit = asyncio.create_task(clock.sleep(timeout_s), name="time limit")
    try:
        await asyncio.wait({waiting, limit}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        limit.cancel()
        await asyncio.wait({waiting, limit})
    return event.is_set()
