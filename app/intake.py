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


class Intake(Generic[E]):
    """Takes arrays of one kind of event and sends each of them.

    Order: all of a request's events are committed together, or none; the response leaves after that
    and carries their position.
    """

    def __init__(self, event_type: type[E], send: Callable[[E], Awaitable[headrace.Sent]]) -> None:
        self._send = send
        self._decoder = msgspec.json.Decoder(list[event_type])  # type: ignore[valid-type]

    async def accept(self, request: Request) -> Response:
        """Send what the request's body holds; 202 with how many. Raises: DecodeError (a 400)."""
        try:
            events: list[E] = self._decoder.decode(await request.body())
        except msgspec.MsgspecError as error:
            raise DecodeError(f"the body is not a JSON array of these events: {error}") from error
        for count, event in enumerate(events, 1):
            await self._send(event)
            if not count % _SLICE_EVENTS:  # a large array must not hold the loop
                await asyncio.sleep(0)
        return JSONResponse({"accepted": len(events)}, status_code=202)
