"""SQLite as the shared database: each connection on a thread of its own, so that no call holds the loop."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from headrace.bridge.session import Access, Parameters, SqlRow, quoted
from headrace.bridge.tally import PROCESS
from headrace.errors import DatabaseUnavailable, HeadraceError, StatementRefused

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another connection's transaction."""
LOOK_EVERY_S = 0.01
"""How often a commit of another connection is looked for."""
_GONE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM}
)  # fmt: skip
"""Primary result codes that say nothing of the statement."""


class SqliteEngine:
    """A database in one file."""

    name = "sqlite"

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.shown = f"sqlite://{path}"

    async def connect(self, access: Access = Access.WRITE, *, purpose: str = "headrace") -> "SqliteSession":
        """A new connection; the file is created where it is missing. Raises: DatabaseUnavailable."""
        session = SqliteSession(self._path, access, purpose)
        try:
            await session.open()
        except BaseException:
            await session.close()
            raise
        return session

    async def waker(self, channel: str) -> "SqliteWaker":
        """Tells of commits of every connection. Raises: DatabaseUnavailable."""
        return SqliteWaker(await self.connect(Access.READ, purpose=channel))


class SqliteWaker:
    """Looks whether another connection has committed: SQLite tells nobody."""

    def __init__(self, session: "SqliteSession") -> None:
        self._session = session
        self._version: Any = None

    async def wait(self, timeout_s: float) -> None:
        """Return after a commit of another connection, seen within 10 ms, or after the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            version = await self._session.data_version()
            if version != self._version or time.monotonic() > deadline:
                self._version = version
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """Let go of its connection."""
        await self._session.close()


class SqliteSession:
    """One connection, used by its own thread only."""

    engine_name = "sqlite"

    def __init__(self, path: Path, access: Access, purpose: str) -> None:
        self.statements = 0
        self._path = path
        self._access = access
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{purpose} sqlite")
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect. Raises: DatabaseUnavailable."""

        def connect() -> None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: transactions are begun by hand, for a writer must say so before it reads.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")

        await self._run(connect)

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; how many rows it changed."""
        return await self._run(lambda: self._cursor(sql, parameters).rowcount)

    async def execute_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run a statement once for each row."""

        def run() -> None:
            self._count()
            self._begun().executemany(_in_sqlite(sql), rows)

        await self._run(run)

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[SqlRow]:
        """Run a query; all its rows."""
        return await self._run(lambda: self._cursor(sql, parameters).fetchall())

    async def data_version(self) -> Any:
        """Another value after each commit of another connection; no statement, for no table is read."""
        assert self._connection is not None
        look = self._connection.execute
        return await self._run(lambda: look("PRAGMA data_version").fetchone()[0])

    async def copy_in(self, table: str, columns: Sequence[str], rows: Sequence[Parameters]) -> None:
        """Append rows to a table."""
        names, places = ", ".join(map(quoted, columns)), ", ".join(["%s"] * len(columns))
        await self.execute_many(f"INSERT INTO {quoted(table)} ({names}) VALUES ({places})", rows)

    async def commit(self) -> None:
        """Make the transaction durable."""
        await self._end("COMMIT")

    async def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        await self._end("ROLLBACK")

    async def close(self) -> None:
        """Let go of the connection."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)

    # --- on the thread

    async def _run(self, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise DatabaseUnavailable(f"the connection to the database {self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise _told(error, self._path) from error

    def _count(self) -> None:
        self.statements += 1
        PROCESS.add()

    def _begun(self) -> sqlite3.Connection:
        connection = self._connection
        assert connection is not None
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE" if self._access is Access.WRITE else "BEGIN")
        return connection

    def _cursor(self, sql: str, parameters: Parameters) -> sqlite3.Cursor:
        self._count()
        if self._access is Access.READ:
            # Without a transaction each query reads what is committed by then.
            assert self._connection is not None
            return self._connection.execute(_in_sqlite(sql), tuple(parameters))
        return self._begun().execute(_in_sqlite(sql), tuple(parameters))

    async def _end(self, how: str) -> None:
        def end() -> None:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute(how)

        await self._run(end)


@lru_cache(maxsize=1024)
def _in_sqlite(sql: str) -> str:
    """A statement with SQLite's marks for parameters."""
    return "%".join(part.replace("%s", "?") for part in sql.split("%%"))


def _told(error: Exception, path: Path) -> HeadraceError:
    code: Any = getattr(error, "sqlite_errorcode", None)
    is_gone = code is not None and (code & 0xFF) in _GONE
    if isinstance(error, OSError) or is_gone:
        return DatabaseUnavailable(f"the database {path} does not answer: {error}")
    return StatementRefused(f"the database refuses a statement: {error}")
