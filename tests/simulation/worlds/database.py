"""SQLite under virtual time: on the loop's own thread, slow by chance, down now and then (bridge.session)."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

from headrace.bridge.database import Database
from headrace.bridge.session import Access
from headrace.bridge.sqlite import BUSY_TIMEOUT_S, SqliteEngine, SqliteSession, _told
from headrace.errors import CommitInDoubt, DatabaseUnavailable
from headrace.settings import Settings
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.steps import Step, fate_of_now

T = TypeVar("T")

_TRIED_AGAIN_S = 0.02


class InlineEngine(SqliteEngine):
    """A database in one file, whose every call is a step of the loop."""

    def __init__(self, path: str, rng: Random | None = None) -> None:
        super().__init__(path)
        self.rng = rng
        """How long calls take; None: no time at all."""
        self.is_down = False
        self.doubts = 0
        """So many commits are not answered, the next ones."""
        self.committed = asyncio.Event()
        """Set by the next commit; a new one takes its place then."""

    async def connect(self, access: Access = Access.WRITE, *, purpose: str = "headrace") -> "InlineSession":
        """A new connection. Raises: DatabaseUnavailable."""
        session = InlineSession(self, self._path, access, purpose)
        await session.open()
        return session

    async def waker(self, channel: str) -> "InlineWaker":  # type: ignore[override]
        """Tells of commits."""
        return InlineWaker(self)

    def note_commit(self) -> None:
        """Wake who waits for a commit."""
        committed, self.committed = self.committed, asyncio.Event()
        committed.set()


class InlineWaker:
    """Waits for a commit of anybody (bridge.session.Waker)."""

    def __init__(self, engine: InlineEngine) -> None:
        self._engine = engine

    async def wait(self, timeout_s: float) -> None:
        """Return after a commit, or after the time."""
        waiting = asyncio.create_task(self._engine.committed.wait(), name="commit of the database")
        try:
            await asyncio.wait({waiting}, timeout=timeout_s)
        finally:
            waiting.cancel()

    async def close(self) -> None:
        """There is nothing to let go of."""


class InlineSession(SqliteSession):
    """One connection, used on the loop's own thread."""

    def __init__(self, engine: InlineEngine, path: Path, access: Access, purpose: str) -> None:
        super().__init__(path, access, purpose)
        self._engine = engine
        self._is_of_applier = "applier" in purpose

    async def open(self) -> None:
        """Connect."""

        def connect() -> None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            # What is lost with the machine's power is not what is tried here.
            connection.execute("PRAGMA synchronous = OFF")

        await self._run(connect)

    async def commit(self) -> None:
        """Make the transaction durable. Raises: CommitInDoubt."""
        fate, connection = fate_of_now.get(None), self._connection
        writes = connection is not None and connection.in_transaction and self._access is Access.WRITE
        if writes and fate is not None and self._is_of_applier:
            await fate.stand_at(Step.SINK_SENT)
        await super().commit()
        if not writes:
            return
        self._engine.note_commit()
        if self._engine.doubts:
            self._engine.doubts -= 1
            raise CommitInDoubt("the connection was lost in a commit")
        if fate is not None and self._is_of_applier:
            await fate.stand_at(Step.SINK_COMMITTED)

    async def close(self) -> None:
        """Let go of the connection; what is not committed is undone."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _run(self, work: Callable[[], T]) -> T:
        engine, loop = self._engine, asyncio.get_running_loop()
        if self._is_closed:
            raise DatabaseUnavailable(f"the connection to the database {self._path} is closed")
        until_s = loop.time() + BUSY_TIMEOUT_S
        while True:
            if engine.rng is not None:
                await time_passes(engine.rng.choice((0.0, 0.0, 0.0, 0.01, 0.05)))
            if (fate := fate_of_now.get(None)) is not None:
                await fate.going.wait()
                await fate.until_buried()
            if engine.is_down:
                raise DatabaseUnavailable(f"the database {self._path} is down")
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code & 0xFF != sqlite3.SQLITE_BUSY or loop.time() > until_s:
                    raise _told(error, self._path) from error
                await time_passes(_TRIED_AGAIN_S)


class WorldDatabase(Database):
    """The database of a world, whatever its workers' settings say."""

    def __init__(self, engine: InlineEngine) -> None:
        super().__init__()
        self.inline = engine

    def engine(self, settings: Settings) -> InlineEngine:
        """The one that there is."""
        return self.inline
