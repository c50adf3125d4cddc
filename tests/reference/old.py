"""The old services in one process, asked without a socket."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette

from app.before import checkout, loyalty, promotions, schema
from app.before.connections import Connections
from headrace.bridge.session import Engine, SqlRow
from headrace.settings import Settings

BUILDERS = {"checkout": checkout.build, "promotions": promotions.build, "loyalty": loyalty.build}


@dataclass
class OldSystem:
    """Three services on one database."""

    engine: Engine
    services: dict[str, Starlette]

    async def post(self, service: str, path: str, *events: Any, key: str = "") -> httpx.Response:
        """Post events."""
        headers = {"Idempotency-Key": key} if key else {}
        async with self._client(service) as client:
            return await client.post(path, content=msgspec.json.encode(list(events)), headers=headers)

    async def get(self, service: str, path: str, **headers: str) -> httpx.Response:
        """Read a path; underscores of header names stand for dashes."""
        async with self._client(service) as client:
            return await client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def json(self, service: str, path: str) -> Any:
        """What a path answers."""
        return (await self.get(service, path)).json()

    async def rows(self, query: str, *parameters: Any) -> list[SqlRow]:
        """What the database answers."""
        session = await self.engine.connect()
        try:
            return await session.fetch(query, parameters)
        finally:
            await session.close()

    def _client(self, service: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.services[service])
        return httpx.AsyncClient(transport=transport, base_url="http://old")


@asynccontextmanager
async def old_system(engine: Engine, settings: Settings | None = None) -> AsyncIterator[OldSystem]:
    """The services on an empty database; `settings` are those of loyalty."""
    await schema.create(engine)
    async with AsyncExitStack() as stack:
        services = {}
        for name, build in BUILDERS.items():
            connections = Connections(engine, f"old {name}")
            stack.push_async_callback(connections.close)
            services[name] = build(connections)
        services["loyalty"] = loyalty.build(connections, settings)
        yield OldSystem(engine, services)
