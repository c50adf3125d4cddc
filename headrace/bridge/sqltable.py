"""A table of the shared database as agents write it: by key, one row at a time."""

from collections.abc import Sequence
from typing import Any

from headrace.bridge.batch import Kind, Shape
from headrace.bridge.sqlsink import sink_in_hand
from headrace.errors import DeclarationError


class SqlTable:
    """A table with a key that the database enforces (a primary key, or a unique index).

    What an agent of an applier writes here is collected, merged by key, and written when the unit is
    committed; `applier.fetch` sees it, too. Column names are the keyword arguments.
    """

    def __init__(self, name: str, *, key: str | Sequence[str], sums: Sequence[str] = ()) -> None:
        self.name = name
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self.sums = frozenset(sums)
        """Columns that `add` adds to; it sets the others."""
        if not self.key or self.sums & set(self.key):
            raise DeclarationError(f"SQL table {name} needs a key, and none of it can be a sum")
        self._shapes: dict[Kind, dict[tuple[str, ...], Shape]] = {kind: {} for kind in Kind}
        self._puts, self._adds = self._shapes[Kind.PUT], self._shapes[Kind.ADD]

    def __repr__(self) -> str:
        return f"<SqlTable {self.name}>"

    def put(self, **row: Any) -> None:
        """Write a row: the columns named are set, those of a row that is there already keep the others.

        Raises: OutsideAgent outside of an agent of an applier.
        """
        columns = tuple(row)
        shape = self._puts.get(columns) or self.shape(Kind.PUT, columns)
        sink_in_hand(self.name).write(shape, tuple(row.values()))

    def add(self, **row: Any) -> None:
        """Add to the sums of a row, and set the other columns that are named; an absent row begins so."""
        columns = tuple(row)
        shape = self._adds.get(columns) or self.shape(Kind.ADD, columns)
        sink_in_hand(self.name).write(shape, tuple(row.values()))

    def delete(self, **key: Any) -> None:
        """Delete the row of a key, if there is one."""
        sink_in_hand(self.name).write(self.shape(Kind.DELETE, tuple(key)), tuple(key.values()))

    def shape(self, kind: Kind, columns: tuple[str, ...]) -> Shape:
        """The shape of rows with these columns. Raises: DeclarationError without the key."""
        return self._shapes[kind].get(columns) or self._new_shape(kind, columns)

    def _new_shape(self, kind: Kind, columns: tuple[str, ...]) -> Shape:
        missing = [name for name in self.key if name not in columns]
        if missing or (kind is Kind.DELETE and len(columns) > len(self.key)):
            raise DeclarationError(
                f"a row of SQL table {self.name} is written by its key, which is {', '.join(self.key)}"
            )
        shape = Shape(self.name, kind, columns, self.key, self.sums)
        self._shapes[kind][columns] = shape
        return shape
