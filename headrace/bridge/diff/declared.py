"""Which table of the database is compared with which table of the app, as the app declares it."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from headrace.bridge.database import Database
from headrace.bridge.diff.difference import Difference
from headrace.errors import DeclarationError
from headrace.events.key import TupleKey
from headrace.flow.topic import Topic
from headrace.tables.table import Table

K = TypeVar("K")
V = TypeVar("V")

Column = str | Callable[[Any], Any]
"""Where a column's value is found: a field of the table's value, or a function of it."""


class Declares(Protocol):
    """Where comparisons are declared."""

    def add_compared(self, compared: "Compared[Any, Any]") -> None:
        """Register a comparison. Raises: DeclarationError."""


class App(Protocol):
    """A `headrace.App`, as far as a comparison knows it."""

    @property
    def declarations(self) -> Declares: ...


class Compared(Generic[K, V]):
    """A table of the database that must say what a table of the app says.

    `key` are the columns of the primary key, in the order of the parts of the table's key; `columns`
    the columns that are compared, each with the field of the value that it holds or a function of the
    value (left out: every field of the value, under its name). `applier` is the group that keeps the
    database up to date, as `group` or `app/group`. `correction` makes of a difference the event that
    corrects the table, sent to the topic `to` with the row's key; None: it makes none.
    """

    def __init__(
        self,
        app: App,
        table: Table[K, V],
        database: Database | None = None,
        *,
        sql_table: str,
        key: str | Sequence[str],
        columns: Mapping[str, Column] | None = None,
        applier: str = "applier",
        correction: Callable[[Difference], Any] | None = None,
        to: Topic[Any, Any] | None = None,
    ) -> None:
        self.table = table
        self.database = database or Database()
        self.sql_table = sql_table
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self.applier = applier
        self.correction = correction
        self.to = to
        parts = len(table.keys.parts) if isinstance(table.keys, TupleKey) else 1
        if len(self.key) != parts:
            raise DeclarationError(
                f"the key of table {table.name} has {parts} parts, and {sql_table} is compared by "
                f"{len(self.key)} columns"
            )
        if (correction is None) != (to is None):
            raise DeclarationError(
                f"{sql_table}: a correction needs the topic that it is sent to, and to= one"
            )
        found = columns if columns is not None else _fields(table)
        self._getters = {name: attrgetter(at) if isinstance(at, str) else at for name, at in found.items()}
        self.columns = tuple(self._getters)
        if set(self.columns) & set(self.key):
            raise DeclarationError(f"a column of the key of {sql_table} is not among those that are compared")
        app.declarations.add_compared(self)

    def wanted(self, value: V) -> tuple[Any, ...]:
        """What the compared columns are to hold, in their order."""
        return tuple(getter(value) for getter in self._getters.values())


def _fields(table: Table[Any, Any]) -> Mapping[str, str]:
    value_type = table.values.value_type
    if isinstance(value_type, type) and issubclass(value_type, msgspec.Struct):
        return {name: name for name in value_type.__struct_fields__}
    raise DeclarationError(
        f"the value of table {table.name} has no fields: which columns it stands for has to be said",
        hint='Write columns={"total": lambda value: value}.',
    )
