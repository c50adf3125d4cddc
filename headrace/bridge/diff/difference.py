"""A row in which a table and the database differ at one position."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """How the database differs from the table."""

    MISSING = "missing"
    """The table has the row, the database does not."""
    EXTRA = "extra"
    """The database has a row that the table does not."""
    DIFFERENT = "different"
    """Both have the row, and a column is not what the value says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row, as both sides have it at one position."""

    kind: Kind
    key: Any
    value: Any
    """What the table holds; None: no row."""
    columns: Mapping[str, Any] | None
    """What the database holds, by the columns that are compared; None: no row."""
    wanted: Mapping[str, Any] | None
    """What the database would hold if it were as the table says; None: no row."""
    position: Mapping[str, int]
    """`topic/partition` to the next offset: both sides contain what is before."""
    store_key: bytes

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns that differ; all of them where a side has no row."""
        one, other = self.columns or {}, self.wanted or {}
        missing = object()
        return tuple(name for name in {**one, **other} if one.get(name, missing) != other.get(name, missing))
