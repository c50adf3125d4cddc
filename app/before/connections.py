"""A service's connections to the shared database: lent to one request each, and counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.bridge.session import Access, Engine, Session

READERS = 4
WRITERS = 4
WRITERS_OF_SQLITE = 1
"""SQLite has one writer at a time; more connections of one service would only wait for each other."""


class Connections:
    """What one service has open; a connection that failed is closed, and the next request opens another."""

    def __init__(self, engine: Engine, service: str) -> None:
        writers = WRITERS_OF_SQLITE if engine.name == "sqlite" else WRITERS
        self.engine = engine
        self._service = service
        self._free = {
            Access.WRITE: asyncio.Semaphore(writers),
            Access.READ: asyncio.Semaphore(READERS),
        }
        self._idle: dict[Access, list[Session]] = {Access.WRITE: [], Access.READ: []}
        self._all: list[Session] = []
        self._statements_of_closed = 0

    @property
    def statements(self) -> int:
        """How many statements this service has sent to the database."""
        return self._statements_of_closed + sum(session.statements for session in self._all)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A transaction: committed at the end of the block, undone when it raises."""
        async with self._lent(Access.WRITE) as session:
            yield session
            await session.commit()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        """A connection whose every query reads what is committed by then."""
        async with self._lent(Access.READ) as session:
            yield session

    async def close(self) -> None:
        """Let go of all connections; nobody may use one any more."""
        while self._all:
            await self._drop(self._all[-1])

    @asynccontextmanager
    async def _lent(self, access: Access) -> AsyncIterator[Session]:
        async with self._free[access]:
            idle = self._idle[access]
            session = idle.pop() if idle else await self._connected(access)
            try:
                yield session
            except BaseException:
                # Whatever happened inside, what the connection is in the middle of is undone with it.
                await self._drop(session)
                raise
            idle.append(session)

    async def _connected(self, access: Access) -> Session:
        session = await self.engine.connect(access, purpose=self._service)
        self._all.append(session)
        return session

    async def _drop(self, session: Session) -> None:
        self._statements_of_closed += session.statements
        self._all.remove(session)
        await session.close()
