"""What the three old services share: an application on connections to the one database, and its errors."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.before.connections import Connections
from headrace.bridge.session import Session
from headrace.errors import DatabaseUnavailable, DecodeError, HeadraceError, StatementRefused

STATUS = {DecodeError: 400, StatementRefused: 409, DatabaseUnavailable: 503}
"""What a client is told; 503 means that it may try again."""

KEY_HEADER = "Idempotency-Key"
_NOTE_REQUEST = "INSERT INTO requests VALUES (%s, %s) ON CONFLICT DO NOTHING"


def application(connections: Connections, routes: Sequence[BaseRoute]) -> Starlette:
    """The service's application; it closes its connections when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await connections.close()

    async def ready(_: Request) -> Response:
        async with connections.reading() as session:
            await session.fetch("SELECT name FROM stage")
        return JSONResponse({"ready": True})

    async def statements(_: Request) -> Response:
        return JSONResponse({"statements": connections.statements})

    own = [Route("/readyz", ready), Route("/statements", statements)]
    refusals = {kind: _refusal(status) for kind, status in STATUS.items()}
    return Starlette(routes=[*own, *routes], lifespan=lifespan, exception_handlers=refusals)


async def accept(
    request: Request, connections: Connections, count: int, write: Callable[[Session], Awaitable[None]]
) -> Response:
    """Write what a request holds in one transaction, once for each key; 202 with how many it holds."""
    async with connections.transaction() as session:
        key = request.headers.get(KEY_HEADER)
        if key is None or await session.execute(_NOTE_REQUEST, (key, count)):
            await write(session)
    return JSONResponse({"accepted": count}, status_code=202)


def _refusal(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HeadraceError)
        return JSONResponse({"error": type(error).__name__, "detail": error.what}, status_code=status)

    return refuse
