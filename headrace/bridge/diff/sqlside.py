"""The compared rows of a table in the database: in key order, page after page, or by key."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from headrace.bridge.diff.declared import Compared
from headrace.bridge.session import Engine, Parameters, Session, SqlRow, quoted
from headrace.errors import DeclarationError, HeadraceError, SchemaMismatch
from headrace.events.key import BytesKey, IntKey, KeyCodec, StrKey, TupleKey, UuidKey

_KEYS_PER_STATEMENT = 200

Columns = tuple[Any, ...]
"""What the compared columns hold, in their order."""


class SqlSide:
    """Reads and mends the rows; keys are store keys of the table."""

    def __init__(self, engine: Engine, compared: Compared[Any, Any]) -> None:
        self._compared = compared
        self._is_sqlite = engine.name == "sqlite"
        codec = compared.table.keys
        self._parts: tuple[KeyCodec[Any], ...] = codec.parts if isinstance(codec, TupleKey) else (codec,)
        names = ", ".join(map(quoted, (*compared.key, *compared.columns)))
        self._table = quoted(compared.sql_table)
        self._select = f"SELECT {names} FROM {self._table}"
        # The order of the store: by code point, whatever the database's collation is.
        collate = "" if self._is_sqlite else ' COLLATE "C"'
        ordered = [
            quoted(name) + (collate if isinstance(part, StrKey) else "")
            for name, part in zip(compared.key, self._parts, strict=True)
        ]
        places = ", ".join(["%s"] * len(ordered))
        self._order = f" ORDER BY {', '.join(ordered)} LIMIT %s"
        self._behind = f" WHERE ({', '.join(ordered)}) > ({places})"

    # --- read

    async def count(self, session: Session) -> int:
        """How many rows there are."""
        ((count,),) = await session.fetch(f"SELECT count(*) FROM {self._table}")
        return int(count)

    async def page(self, session: Session, after: bytes | None, rows_max: int) -> list[tuple[bytes, Columns]]:
        """The next rows in key order. Raises: DeclarationError for keys that the table cannot have."""
        if after is None:
            found = await session.fetch(self._select + self._order, (rows_max,))
        else:
            parameters = (*self._parameters(after), rows_max)
            found = await session.fetch(self._select + self._behind + self._order, parameters)
        page = [self._parted(row) for row in found]
        if any(one[0] >= other[0] for one, other in pairwise(page)):
            raise SchemaMismatch(
                f"the key of {self._compared.sql_table} is not unique, or not ordered like the table's",
                hint="Compare by the columns of its primary key, with types like those of the table's key.",
            )
        return page

    async def rows(
        self, session: Session, store_keys: Sequence[bytes], *, is_locked: bool = False
    ) -> Mapping[bytes, Columns]:
        """The rows of these keys, as far as there are any; locked until the transaction ends."""
        found: dict[bytes, Columns] = {}
        lock = " FOR UPDATE" if is_locked and not self._is_sqlite else ""
        for start in range(0, len(store_keys), _KEYS_PER_STATEMENT):
            some = store_keys[start : start + _KEYS_PER_STATEMENT]
            where, parameters = self._where(some)
            rows = await session.fetch(f"{self._select} WHERE {where}{lock}", parameters)
            found.update(self._parted(row) for row in rows)
        return found

    def _where(self, store_keys: Sequence[bytes]) -> tuple[str, Parameters]:
        one = " AND ".join(f"{quoted(name)} = %s" for name in self._compared.key)
        values = [value for key in store_keys for value in self._parameters(key)]
        return " OR ".join([f"({one})"] * len(store_keys)), values

    # --- mend

    async def put(self, session: Session, store_key: bytes, columns: Columns) -> None:
        """Let a row hold this."""
        await session.execute(*self.put_statement(store_key, columns))

    async def delete(self, session: Session, store_key: bytes) -> None:
        """Let there be no row."""
        await session.execute(*self.delete_statement(store_key))

    def put_statement(self, store_key: bytes, columns: Columns) -> tuple[str, Parameters]:
        """What lets a row hold this."""
        compared = self._compared
        names = (*compared.key, *compared.columns)
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in compared.columns)
        key = ", ".join(map(quoted, compared.key))
        return (
            f"INSERT INTO {self._table} ({', '.join(map(quoted, names))}) "
            f"VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT ({key}) DO UPDATE SET {sets}",
            (*self._parameters(store_key), *columns),
        )

    def delete_statement(self, store_key: bytes) -> tuple[str, Parameters]:
        """What lets there be no row."""
        where, parameters = self._where([store_key])
        return f"DELETE FROM {self._table} WHERE {where}", parameters

    # --- keys

    def _parted(self, row: SqlRow) -> tuple[bytes, Columns]:
        count = len(self._parts)
        return self.store_key(row[:count]), tuple(map(_plain, row[count:]))

    def store_key(self, values: SqlRow) -> bytes:
        """The store key that the key columns stand for. Raises: DeclarationError."""
        table = self._compared.table
        try:
            parts = tuple(_key_part(part, value) for part, value in zip(self._parts, values, strict=True))
            key = parts if isinstance(table.keys, TupleKey) else parts[0]
            return table.row_prefix + table.keys.to_store(key)
        except (HeadraceError, ValueError, TypeError) as error:
            raise DeclarationError(
                f"{self._compared.sql_table} has the key {values!r}, which is no key of table {table.name}: "
                f"{error}",
                hint="Name the columns in the order of the key's parts; their types must fit.",
            ) from error

    def _parameters(self, store_key: bytes) -> Parameters:
        return list(self._values(self.key(store_key)))

    def key(self, store_key: bytes) -> Any:
        """The table's key behind a store key."""
        table = self._compared.table
        return table.keys.from_store(store_key[len(table.row_prefix) :])

    def _values(self, key: Any) -> Iterator[Any]:
        for value in key if isinstance(self._compared.table.keys, TupleKey) else (key,):
            yield str(value) if self._is_sqlite and isinstance(value, uuid.UUID) else value


def _key_part(part: KeyCodec[Any], value: Any) -> Any:
    """A key column's value as the table's key has it."""
    match part:
        case IntKey() if isinstance(value, Decimal) and value == value.to_integral_value():
            return int(value)
        case UuidKey() if isinstance(value, str):
            return uuid.UUID(value)
        case BytesKey() if isinstance(value, memoryview | bytearray):
            return bytes(value)
        case _:
            return value


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
