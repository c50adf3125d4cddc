"""How facts come in over HTTP: a JSON array of events, sent in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from headrace.errors import DecodeError

E = TypeVar("E", bound=headrace.Event)

_SLICE_EVENTS = 64
_items: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


async def events_in(request: Request, decode: Callable[[msgspec.Raw], E]) -> list[E]:
    """The events of a request's body, a JSON array. Raises: DecodeError (a 400)."""
    events: list[E] = []
    try:
        # In slices, or a large array would hold the loop.
        for raw in _items.decode(await request.body()):
            events.append(decode(raw))
            if not len(events) % _SLICE_EVENTS:
                await asyncio.sleep(0)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the body is not a JSON array of these events: {error}") from error
    return events


class Intake(Generic[E]):
    """Takes arrays of one kind of event and sends each of them.

    Order: all of a request's events are committed together, or none; the response leaves after that
    and carries their position.
    """

    def __init__(self, event_type: type[E], send: Callable[[E], Awaitable[headrace.Sent]]) -> None:
        self._send = send
        self._decode = msgspec.json.Decoder(event_type).decode

    async def accept(self, request: Request) -> Response:
        """Send what the request's body holds; 202 with how many. Raises: DecodeError (a 400)."""
        # Everything is decoded before anything is sent.
        events = await events_in(request, self._decode)
        for count, event in enumerate(events, 1):
            await self._send(event)
            if not count % _SLICE_EVENTS:
                await asyncio.sleep(0)
        return JSONResponse({"accepted": len(events)}, status_code=202)
