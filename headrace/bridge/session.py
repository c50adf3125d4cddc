"""The port to a database: one connection, and the transaction that it is in."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

Parameters = Sequence[Any]
SqlRow = tuple[Any, ...]


class Access(Enum):
    """What a transaction is for."""

    WRITE = "write"
    READ = "read"
    """Nothing is written; every statement reads committed rows as they are by then."""
    SNAPSHOT = "snapshot"
    """Nothing is written; every statement reads what the first one could see."""


class Session(Protocol):
    """One connection. It is in a transaction from the first statement to `commit` or `rollback`.

    Statements have `%s` for each parameter, and `%%` for a percent sign, whatever the database.
    Any method raises DatabaseUnavailable when the connection or the server is gone, when the
    transaction lost against another one (deadlock, serialization), and when a lock was not granted in
    time: nothing of the transaction is committed then. StatementRefused: the database does not take
    this statement or row; the transaction is to be rolled back. One task at a time uses a session.
    """

    engine_name: str
    """That of its database."""
    statements: int
    """How many statements went to the database over this connection; a batch of rows counts once."""

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; how many rows it changed."""

    async def execute_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run a statement once for each row, in order, without waiting for each answer."""

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[SqlRow]:
        """Run a query; all its rows."""

    async def copy_in(self, table: str, columns: Sequence[str], rows: Sequence[Parameters]) -> None:
        """Append rows to a table in the fastest way that the database has."""

    async def commit(self) -> None:
        """Make the transaction durable. Raises: CommitInDoubt when its outcome is not known."""

    async def rollback(self) -> None:
        """Undo the transaction; nothing happens when there is none."""

    async def close(self) -> None:
        """Let go of the connection; what is not committed is undone."""


class Waker(Protocol):
    """Tells of commits of others."""

    async def wait(self, timeout_s: float) -> None:
        """Return after a commit since the last call, or after the time. Raises: DatabaseUnavailable."""

    async def close(self) -> None:
        """Let go of what it listens with."""


class Engine(Protocol):
    """A database at one address."""

    name: str
    """What it is called: `postgresql` or `sqlite`."""
    shown: str
    """Its address for people, without a password."""

    async def connect(self, access: Access = Access.WRITE, *, purpose: str = "headrace") -> Session:
        """A new connection, named by its purpose where the database shows such names.

        Raises: DatabaseUnavailable.
        """

    async def waker(self, channel: str) -> Waker:
        """Who tells of commits: those that notify the channel, where the database has such a thing."""


def quoted(name: str) -> str:
    """A table or column name as SQL text; `schema.table` keeps its dot."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
