"""PostgreSQL as the shared database, by psycopg 3."""

import asyncio
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, sql

from headrace.bridge.session import Access, Parameters, SqlRow
from headrace.bridge.tally import PROCESS
from headrace.errors import CommitInDoubt, DatabaseUnavailable, HeadraceError, SettingsError, StatementRefused

CONNECT_TIMEOUT_S = 10
IDLE_IN_TRANSACTION_S = 10
"""After this long in an open transaction without a statement the server ends the connection: a worker that
stands still must not keep its successor waiting."""
LOCK_TIMEOUT_S = 20
_SLICE_ROWS = 256
_GONE_STATES = ("08", "40", "53", "55", "57", "58", "25P03", "25P04")
"""What an SQLSTATE begins with that says nothing of the statement: connection, rollback by the server, no
resources, not in its state, operator intervention, system; a transaction that stood still or was too long."""


class PostgresEngine:
    """A database of a PostgreSQL server."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise SettingsError(f"the address of the database is malformed: {error}") from error
        self._url = url
        host, port = parts.get("host") or "localhost", parts.get("port") or 5432
        self.shown = f"postgresql://{host}:{port}/{parts.get('dbname') or ''}"

    @property
    def url(self) -> str:
        """The address as libpq takes it."""
        return self._url

    async def connect(self, access: Access = Access.WRITE, *, purpose: str = "headrace") -> "PostgresSession":
        """A new connection; `pg_stat_activity` shows its purpose. Raises: DatabaseUnavailable."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url,
                application_name=purpose,
                connect_timeout=CONNECT_TIMEOUT_S,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=15_000,
                options=f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s"
                f" -c lock_timeout={LOCK_TIMEOUT_S}s",
            )
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"the database {self.shown} does not answer: {error}") from error
        if access is not Access.WRITE:
            await connection.set_read_only(True)
        if access is Access.SNAPSHOT:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        return PostgresSession(connection, access)

    async def waker(self, channel: str) -> "PostgresWaker":
        """Tells of notifications of a channel. Raises: DatabaseUnavailable."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, application_name=channel, connect_timeout=CONNECT_TIMEOUT_S
            )
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"the database {self.shown} does not answer: {error}") from error
        return PostgresWaker(connection)


class PostgresWaker:
    """LISTENs on a connection of its own."""

    def __init__(self, connection: "psycopg.AsyncConnection[SqlRow]") -> None:
        self._connection = connection

    async def wait(self, timeout_s: float) -> None:
        """Return after a notification, or after the time. Raises: DatabaseUnavailable."""
        try:
            async for _ in self._connection.notifies(timeout=timeout_s, stop_after=1):
                pass
            async for _ in self._connection.notifies(timeout=0):
                pass  # what came meanwhile is told by the same wake-up
        except psycopg.Error as error:
            raise _told(error) from error

    async def close(self) -> None:
        """Let go of its connection."""
        await self._connection.close()


class PostgresSession:
    """One connection."""

    engine_name = "postgresql"

    def __init__(self, connection: "psycopg.AsyncConnection[SqlRow]", access: Access) -> None:
        self.statements = 0
        self.connection = connection
        """What psycopg knows it as, for what the port does not have."""
        self._access = access

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; how many rows it changed."""
        self._count()
        try:
            cursor = await self.connection.execute(_literal(sql), parameters or None)
        except psycopg.Error as error:
            raise _told(error) from error
        return cursor.rowcount

    async def execute_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run a statement once for each row, in a pipeline."""
        self._count()
        try:
            async with self.connection.cursor() as cursor:
                await cursor.executemany(_literal(sql), rows)
        except psycopg.Error as error:
            raise _told(error) from error

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[SqlRow]:
        """Run a query; all its rows."""
        self._count()
        try:
            cursor = await self.connection.execute(_literal(sql), parameters or None)
            return await cursor.fetchall()
        except psycopg.Error as error:
            raise _told(error) from error
        finally:
            if self._access is Access.READ:
                await self.rollback()

    async def copy_in(self, table: str, columns: Sequence[str], rows: Sequence[Parameters]) -> None:
        """Append rows by COPY."""
        self._count()
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*table.split(".")), names)
        try:
            async with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for start in range(0, len(rows), _SLICE_ROWS):
                    # Row by row `copy.write_row` would be a coroutine for each; the bytes are the same.
                    parts = [copy.formatter.write_row(row) for row in rows[start : start + _SLICE_ROWS]]
                    if data := b"".join(parts):
                        await copy.write(data)
                    await asyncio.sleep(0)
        except psycopg.Error as error:
            raise _told(error) from error

    async def commit(self) -> None:
        """Make the transaction durable. Raises: CommitInDoubt."""
        try:
            await self.connection.commit()
        except psycopg.Error as error:
            if error.sqlstate is not None and self.connection.broken is False:
                # The server answered: the transaction is rolled back, by a deferred constraint for one.
                raise _told(error) from error
            raise CommitInDoubt(f"the connection was lost in a commit: {error}") from error

    async def rollback(self) -> None:
        """Undo the transaction; a connection that is lost has none."""
        if self.connection.closed:
            return
        try:
            await self.connection.rollback()
        except psycopg.Error as error:
            raise _told(error) from error

    def _count(self) -> None:
        self.statements += 1
        PROCESS.add()

    async def close(self) -> None:
        """Let go of the connection; the server undoes what is not committed."""
        await self.connection.close()


def _literal(statement: str) -> LiteralString:
    # psycopg wants proof that SQL is not made of input; here it is what the app's code wrote.
    return statement


def _told(error: psycopg.Error) -> HeadraceError:
    state: Any = error.sqlstate
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable(f"the connection to the database is lost: {error}")
    if state is not None and state.startswith(_GONE_STATES):
        return DatabaseUnavailable(f"the database gave up a transaction: {error}")
    return StatementRefused(f"the database refuses a statement ({state or 'before it was sent'}): {error}")
