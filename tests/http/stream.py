"""A client of one stream that decides itself when it takes what is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from headrace.http.application import Application

PATIENCE_S = 10.0


class Event(NamedTuple):
    """One server-sent event; the name of a comment is empty."""

    name: str
    data: Any
    event_id: str


class Stream:
    """An open answer: each part is sent when the test asks for it, and not before."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.is_over = False
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = asyncio.Semaphore(0)
        self.gone = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        await self._wanted.acquire()
        self._parts.put_nowait(message["body"])
        self.is_over = not message.get("more_body", False)

    async def part(self) -> bytes:
        """Take the next part."""
        self._wanted.release()
        async with asyncio.timeout(PATIENCE_S):
            return await self._parts.get()

    async def event(self) -> Event:
        """Take the next event."""
        lines = (await self.part()).decode().splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line and not line.startswith(":"))
        data = json.loads(fields["data"]) if fields.get("event") != "shape" and "data" in fields else None
        return Event(fields.get("event", ""), data, fields.get("id", ""))


@asynccontextmanager
async def streaming(
    application: Application,
    path: str,
    *,
    query: bytes = b"",
    accept: bytes = b"text/event-stream",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncIterator[Stream]:
    """A stream that is closed by its client at the end of the block."""
    stream = Stream()
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"accept", accept), *headers],
    }
    answering = asyncio.create_task(application(scope, stream.receive, stream.send), name="answer")
    try:
        yield stream
    finally:
        stream.gone.set()
        for _ in range(4):
            stream._wanted.release()
        async with asyncio.timeout(PATIENCE_S):
            await answering
