"""What the agents of one unit write into a database: collected, merged by key, sent in few statements."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from headrace.bridge.session import Parameters, Session, quoted
from headrace.turns import Turns

STAGED_MIN = 16
"""From so many rows on it is faster to copy them into a staging table than to send a statement for each."""
_SLICE_ROWS = 256


class Kind(Enum):
    """What becomes of a row."""

    PUT = "put"
    ADD = "add"
    DELETE = "delete"


class Shape:
    """Rows that one statement writes: of one table, with the same columns."""

    def __init__(
        self, table: str, kind: Kind, columns: tuple[str, ...], key: tuple[str, ...], sums: frozenset[str]
    ) -> None:
        self.table = table
        self.kind = kind
        self.columns = columns
        self.key = key
        self._key_at = tuple(columns.index(name) for name in key)
        self._single = self._key_at[0] if len(key) == 1 else None
        self._sums_at = tuple(
            at for at, name in enumerate(columns) if kind is Kind.ADD and name in sums and name not in key
        )

    def key_of(self, row: Parameters) -> Any:
        """What names a row among those of its table."""
        return row[self._single] if self._single is not None else tuple(row[at] for at in self._key_at)

    def merged(self, before: Parameters, after: Parameters) -> Parameters:
        """Two writes to one key as one."""
        if not self._sums_at:
            return after
        row = list(after)
        for at in self._sums_at:
            row[at] = before[at] + after[at]
        return row

    @cached_property
    def staging(self) -> str:
        """The name of the temporary table that such rows are copied into."""
        name = "\0".join((self.table, *self.columns))
        return f"headrace_staging_{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"

    @cached_property
    def stage(self) -> str:
        """The statement that makes it, with the types of the table itself."""
        return (
            f"CREATE TEMP TABLE {self.staging} ON COMMIT DELETE ROWS AS "
            f"SELECT {self._names} FROM {quoted(self.table)} WITH NO DATA"
        )

    @cached_property
    def from_staging(self) -> str:
        """The statement that writes what is staged, and nothing of it twice."""
        if self.kind is Kind.DELETE:
            keys = ", ".join(map(quoted, self.key))
            return f"DELETE FROM {quoted(self.table)} WHERE ({keys}) IN (SELECT {keys} FROM {self.staging})"
        source = f"SELECT {self._names} FROM {self.staging}"
        return f"INSERT INTO {quoted(self.table)} ({self._names}) {source} {self._on_conflict}"

    @cached_property
    def one_by_one(self) -> str:
        """The statement that writes one row."""
        if self.kind is Kind.DELETE:
            where = " AND ".join(f"{quoted(name)} = %s" for name in self.columns)
            return f"DELETE FROM {quoted(self.table)} WHERE {where}"
        places = ", ".join(["%s"] * len(self.columns))
        return f"INSERT INTO {quoted(self.table)} ({self._names}) VALUES ({places}) {self._on_conflict}"

    @property
    def _names(self) -> str:
        return ", ".join(map(quoted, self.columns))

    @property
    def _on_conflict(self) -> str:
        keys = ", ".join(map(quoted, self.key))
        table = quoted(self.table.rpartition(".")[2])
        changes = []
        for at, column in enumerate(self.columns):
            if column not in self.key:
                name = quoted(column)
                added = f"{table}.{name} + " if at in self._sums_at else ""
                changes.append(f"{name} = {added}excluded.{name}")
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f"ON CONFLICT ({keys}) DO {action}"


class Statement(NamedTuple):
    """A statement of the user's own."""

    sql: str


Write = tuple[Shape | Statement, Parameters]
"""One thing that an agent wrote: a row, or parameters of a statement."""


class Batch:
    """Writes in the order in which they were made, until they are sent.

    The order is kept between writes to one key, and between rows and statements; rows of different keys
    may change places.
    """

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._indexes: list[int] = []
        """With a guard: whose event each write is."""
        self._index_in_hand: Callable[[], int] | None = None

    def __len__(self) -> int:
        return len(self._writes)

    def guard(self, index_in_hand: Callable[[], int] | None) -> None:
        """Note whose event each write is, from here on; None: do not."""
        self._index_in_hand = index_in_hand

    @property
    def is_guarded(self) -> bool:
        """Whether writes can be taken back event by event."""
        return self._index_in_hand is not None

    def write(self, what: Shape | Statement, row: Parameters) -> None:
        """Note a write."""
        self._writes.append((what, row))
        if self._index_in_hand is not None:
            self._indexes.append(self._index_in_hand())

    def of_event_in_hand(self) -> int:
        """How many of the writes, the last ones, are of the event in hand; all of them without a guard."""
        if self._index_in_hand is None:
            return len(self._writes)
        index, count = self._index_in_hand(), 0
        while count < len(self._indexes) and self._indexes[-1 - count] == index:
            count += 1
        return count

    def take(self, count: int | None = None) -> Sequence[Write]:
        """Take the first writes out, all of them unless told how many."""
        count = len(self._writes) if count is None else count
        taken, self._writes = self._writes[:count], self._writes[count:]
        self._indexes = self._indexes[count:]
        return taken

    def forget(self, count: int | None = None) -> None:
        """Forget the last writes, all of them unless told how many."""
        keep = 0 if count is None else len(self._writes) - count
        del self._writes[keep:]
        del self._indexes[keep:]


class Staging:
    """The staging tables of one session; each is made once, and emptied at the end of a transaction."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._filled: set[str] = set()
        self._new: set[str] = set()

    async def copy(self, session: Session, shape: Shape, rows: Sequence[Parameters]) -> None:
        """Copy rows into the staging table of their shape, and from there to where they belong."""
        if shape.staging not in self._made:
            await session.execute(shape.stage)
            self._made.add(shape.staging)
            self._new.add(shape.staging)
        elif shape.staging in self._filled:
            await session.execute(f"TRUNCATE {shape.staging}")
        self._filled.add(shape.staging)
        await session.copy_in(shape.staging, shape.columns, rows)
        await session.execute(shape.from_staging)

    def committed(self) -> None:
        """The transaction is over."""
        self._filled.clear()
        self._new.clear()

    def rolled_back(self) -> None:
        """The transaction, or the part of it behind a savepoint, was undone, and what it made with it."""
        self._made -= self._new
        self.committed()


async def send(session: Session, writes: Sequence[Write], staging: Staging | None) -> None:
    """Send writes to the database, within the session's transaction; without staging one by one.

    Raises: StatementRefused, DatabaseUnavailable.
    """
    for what, rows in await _runs(writes):
        if isinstance(what, Statement):
            await session.execute_many(what.sql, rows)
        elif staging is not None and len(rows) >= STAGED_MIN:
            await staging.copy(session, what, rows)
        else:
            await session.execute_many(what.one_by_one, rows)


async def _runs(writes: Sequence[Write]) -> list[tuple[Shape | Statement, Sequence[Parameters]]]:
    """Writes as runs that can be sent at once, merged by key, in an order that means the same."""
    runs: list[tuple[Shape | Statement, Sequence[Parameters]]] = []
    open_runs: dict[Shape, dict[Any, Parameters]] = {}
    rivals: dict[str, list[dict[Any, Parameters]]] = {}
    """By table the rows of each way to write it."""

    def close() -> Iterator[tuple[Shape | Statement, Sequence[Parameters]]]:
        for shape, rows in open_runs.items():
            yield shape, list(rows.values())
        open_runs.clear()
        rivals.clear()

    statements: list[Parameters] = []
    turns = Turns()
    for at, (what, row) in enumerate(writes):
        if not at % _SLICE_ROWS and turns.is_due:
            await turns.give()
        if isinstance(what, Statement):
            if not (runs and runs[-1][0] == what and not open_runs):
                runs += close()
                statements = []
                runs.append((what, statements))
            statements.append(row)
            continue
        key = what.key_of(row)
        rows = open_runs.get(what)
        if rows is not None and (before := rows.get(key)) is not None:
            rows[key] = what.merged(before, row)
            continue
        ways = rivals.get(what.table, ())
        if (rows is None or len(ways) > 1) and any(key in way for way in ways):
            # Written in another way before: that comes first.
            runs += close()
            rows = None
        if rows is None:
            rows = open_runs[what] = {}
            rivals.setdefault(what.table, []).append(rows)
        rows[key] = row
    runs += close()
    return runs
