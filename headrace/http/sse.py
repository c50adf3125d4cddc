"""Streams of server-sent events: bounded in number, never more than one event behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from starlette.types import Receive, Send

from headrace.http.problems import RETRY_AFTER, Problem, RawHeader

HEARTBEAT_S = 15.0

TOO_MANY = Problem(503, "As many streams are open as this worker serves.", RETRY_AFTER)
_HEARTBEAT = b": still here\n\n"
COUNTED = 0
"""The status of an answer that was counted when it began: how long it stays open is no latency."""


def event(name: str, data: bytes, event_id: bytes = b"") -> bytes:
    """One event on the wire; the data is JSON on one line, or text without line breaks."""
    head = b"event: " + name.encode() + b"\n" + (b"id: " + event_id + b"\n" if event_id else b"")
    return head + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


class Events(Protocol):
    """Where a stream's events come from."""

    def next(self) -> bytes | None:
        """What is to be sent now; None: nothing. Raises: StreamEnded."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when `next` may have something; taken in the turn in which `next` was asked."""


class StreamEnded(Exception):
    """Nothing follows; `last` is what the client still gets."""

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self.last = last


class Streams:
    """The open streams of one server."""

    def __init__(
        self, streams_max: int, *, count: Callable[[int], None], heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._streams_max = streams_max
        self._count = count
        self._heartbeat_s = heartbeat_s
        self._open = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Let every stream say that the worker stops, and end."""
        self._ending.set()

    @property
    def has_room(self) -> bool:
        """Whether one more may be opened."""
        return self._open < self._streams_max and not self._ending.is_set()

    @property
    def is_ending(self) -> bool:
        """Whether the server stops."""
        return self._ending.is_set()

    async def respond(
        self, events: Events, ending: bytes, receive: Receive, send: Send, *headers: RawHeader
    ) -> int:
        """Send events until they end, the client goes, or the server stops (with `ending` as last event).

        Order: `next` is asked when the one before is on its way, so a slow client gets the newest
        and nothing piles up for it. The result is the status, COUNTED once it has begun.
        """
        if not self.has_room:
            return await TOO_MANY.send(send)
        self._open += 1
        try:
            self._count(200)
            head = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *headers]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            gone = asyncio.create_task(_until_gone(receive), name="client of a stream")
            ending_soon = asyncio.create_task(self._ending.wait(), name="end of a stream")
            try:
                async for part in self._parts(events, ending, gone, ending_soon):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            finally:
                gone.cancel()
                ending_soon.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._open -= 1
        return COUNTED

    async def _parts(
        self,
        events: Events,
        ending: bytes,
        gone: "asyncio.Task[None]",
        ending_soon: "asyncio.Task[bool]",
    ) -> AsyncIterator[bytes]:
        while not gone.done():
            if self._ending.is_set():
                yield ending
                return
            changed = events.changed
            try:
                found = events.next()
            except StreamEnded as ended:
                yield ended.last
                return
            if found is not None:
                yield found
                continue
            woken = asyncio.create_task(changed.wait(), name="next event of a stream")
            try:
                done, _ = await asyncio.wait(
                    {woken, gone, ending_soon},
                    timeout=self._heartbeat_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                woken.cancel()
            if not done:
                yield _HEARTBEAT


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
