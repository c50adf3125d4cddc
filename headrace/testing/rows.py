"""The committed rows of a table, over all workers of its app."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from headrace.errors import NotOwner
from headrace.runtime import Runtime
from headrace.tables.table import Table
from headrace.tables.view import PartitionView

K = TypeVar("K")
V = TypeVar("V")


class TableRows(Mapping[K, V]):
    """A table as a mapping: what readers see now.

    A key without a row is missing here, whatever the table's default makes of it in an agent.
    Raises: StillRecovering, NotOwner and the like, for a partition that does not answer.
    """

    def __init__(
        self, table: Table[K, V], runtimes: Callable[[], Sequence[Runtime]], partitions: Callable[[], int]
    ) -> None:
        self._table = table
        self._runtimes = runtimes
        self._partitions = partitions

    def __getitem__(self, key: K) -> V:
        raw = self._raw(key)
        if raw is None:
            raise KeyError(key)
        return self._table.values.decoded(raw)  # type: ignore[no-any-return]

    def _raw(self, key: K) -> bytes | None:
        for runtime in self._runtimes():
            try:
                return runtime.committed(self._table, key)
            except NotOwner:
                continue
        raise NotOwner(f"no worker serves the partition of {key!r} of table {self._table.name}")

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self._scan())

    def __len__(self) -> int:
        return sum(1 for _ in self._scan())

    def __eq__(self, other: object) -> bool:
        return self.rows() == (other.rows() if isinstance(other, TableRows) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<table {self._table.name}: {self.rows()!r}>"

    def rows(self) -> dict[K, V]:
        """Every row, as a dict of the test's own."""
        return dict(self._scan())

    def _group_views(self) -> list[PartitionView]:
        views = [view for runtime in self._runtimes() for view in runtime.views()]
        mine = [view for view in views if view.group == self._table.group]
        if len(mine) < self._partitions():
            raise NotOwner(f"{len(mine)} of {self._partitions()} partitions of {self._table.name} are served")
        return mine

    def _scan(self) -> Iterator[tuple[K, V]]:
        prefix = self._table.row_prefix
        for view in self._group_views():
            for key, raw in raw_rows(view, prefix, prefix[:-1] + b"\1"):
                yield self._table.keys.from_store(key[len(prefix) :]), self._table.values.decoded(raw)


def raw_rows(view: PartitionView, start: bytes, end: bytes | None) -> list[tuple[bytes, Any]]:
    """The committed rows of a partition as bytes, in key order."""
    frozen = view.freeze()
    try:
        return list(frozen.scan(start, end))
    finally:
        frozen.close()
