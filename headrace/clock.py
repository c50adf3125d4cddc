"""Time as everything above it sees it: the system's, or one that a test moves."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits in it."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some instant; never falls."""

    async def sleep(self, seconds: float) -> None:
        """Return when this long has passed. Cancel: nothing is left."""


class SystemClock:
    """The machine's time."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some instant; never falls."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return when this long has passed."""
        await asyncio.sleep(seconds)


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
