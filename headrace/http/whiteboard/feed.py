"""What the open whiteboards are told: one look at the worker per second for all of them together."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

from headrace.http.sse import event
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.page import fingerprint
from headrace.http.whiteboard.rates import Rates, Sample, sample
from headrace.http.whiteboard.readings import readings

INTERVAL_S = 1.0
_STALE_S = 5.0


class Feed:
    """Looks at a board once per interval, as long as somebody follows it.

    A rate is a difference over time: this is the one thing of the server that a clock drives.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Board]],
        *,
        interval_s: float = INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._followers = 0
        self._ticking: asyncio.Task[None] | None = None
        self._before: Sample | None = None
        self.changed = asyncio.Event()
        """Set at the next look; a new one takes its place then."""
        self.readings: Mapping[str, str] = {}
        self.shape = ""

    async def now(self) -> tuple[Board, Mapping[str, str]]:
        """The board as of now with its readings; rates, if it was looked at a moment ago."""
        board = await self._look()
        return board, readings(board, self._rates(sample(board, self._monotonic())))

    @asynccontextmanager
    async def following(self) -> AsyncIterator["Follower"]:
        """Keeps the feed going for the time of the block."""
        self._followers += 1
        if self._ticking is None:
            await self._tick()
            self._ticking = asyncio.create_task(self._tick_on(), name="whiteboard feed")
        try:
            yield Follower(self)
        finally:
            self._followers -= 1
            if not self._followers and self._ticking is not None:
                self._ticking.cancel()
                await asyncio.wait({self._ticking})
                self._ticking = None

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._tick()

    async def _tick(self) -> None:
        board = await self._look()
        now = sample(board, self._monotonic())
        self.readings, self.shape = readings(board, self._rates(now)), fingerprint(board.shape)
        self._before = now
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _rates(self, now: Sample) -> Rates:
        before = self._before
        is_fresh = before is not None and now.at_s - before.at_s < self._interval_s + _STALE_S
        return Rates(before, now) if is_fresh else Rates()


class Follower:
    """One open whiteboard: gets what differs from what it has."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._has: Mapping[str, str] = {}
        self._shape = ""

    @property
    def changed(self) -> asyncio.Event:
        """The feed's own signal."""
        return self._feed.changed

    def next(self) -> bytes | None:
        """The readings that changed; first the shape, so that an outdated page asks for a new one."""
        if self._feed.shape != self._shape:
            self._shape = self._feed.shape
            return event("shape", self._shape.encode())
        now = self._feed.readings
        news = {slot: text for slot, text in now.items() if self._has.get(slot) != text}
        self._has = now
        return event("readings", msgspec.json.encode(news)) if news else None
