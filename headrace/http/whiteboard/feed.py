"""What the open whiteboards are told: one look per second for all of them together."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from headrace.http.sse import event
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.page import fingerprint
from headrace.http.whiteboard.rates import Rates, Sample, sample
from headrace.http.whiteboard.readings import readings

INTERVAL_S = 1.0
_STALE_S = 5.0


class Feed:
    """Looks at some boards once per interval, as long as somebody follows it.

    A rate is a difference over time: this is the one thing of the server that a clock drives.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Sequence[Board]]],
        shape_of: Callable[[Sequence[Board]], str],
        *,
        interval_s: float = INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._shape_of = shape_of
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._followers = 0
        self._ticking: asyncio.Task[None] | None = None
        self._before: Mapping[str, Sample] = {}
        self.changed = asyncio.Event()
        """Set at the next look; a new one takes its place then."""
        self.readings: Mapping[str, str] = {}
        self.shape = ""

    async def now(self) -> tuple[Sequence[Board], Mapping[str, str]]:
        """The boards as of now with their readings; rates, if they were looked at a moment ago."""
        boards = await self._look()
        return boards, self._read(boards)[0]

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
        boards = await self._look()
        self.readings, self._before = self._read(boards)
        self.shape = fingerprint(self._shape_of(boards))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _read(self, boards: Sequence[Board]) -> tuple[Mapping[str, str], Mapping[str, Sample]]:
        """The readings of these boards, and the samples that the next ones are compared with."""
        samples = {board.app: sample(board, self._monotonic()) for board in boards}
        shown: dict[str, str] = {}
        for board in boards:
            shown.update(readings(board, self._rates(samples[board.app], self._before.get(board.app))))
        return shown, samples

    def _rates(self, now: Sample, before: Sample | None) -> Rates:
        is_fresh = before is not None and now.at_s - before.at_s < self._interval_s + _STALE_S
        return Rates(before, now) if is_fresh else Rates()


class Told(Protocol):
    """What open whiteboards are told now."""

    changed: asyncio.Event
    readings: Mapping[str, str]
    shape: str


class Follower:
    """One open whiteboard: gets what differs from what it has."""

    def __init__(self, feed: Told) -> None:
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
