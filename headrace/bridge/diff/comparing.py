"""Compares a table with one of the database, page after page in key order, each page at one position."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from headrace.bridge.diff.declared import Compared
from headrace.bridge.diff.difference import Difference, Kind
from headrace.bridge.diff.replica import Replica
from headrace.bridge.diff.sqlside import Columns, SqlSide
from headrace.bridge.diff.state import State
from headrace.bridge.pin import pinned
from headrace.bridge.session import Session
from headrace.errors import NotAtOnePosition
from headrace.events.position import Position
from headrace.flow.group import Group

PAGE_ROWS = 10_000
_LOOKS_PER_PAGE = 1_000
_LOOKS_MAX = 400
"""So often a row is looked at that both sides write all the time; then it stays undecided."""
_PAUSE_S = 0.02
_HASH_RANGE = 1 << 64

Report = Callable[[int], None]
"""Told how many rows are compared so far."""


class Comparison:
    """One comparison under way; both sides go on meanwhile, and neither waits for it.

    A page of the database is read in a snapshot together with the applier's position; the replica of
    the table is then brought to that position. Whichever side is behind is waited for.
    """

    def __init__(
        self,
        compared: Compared[Any, Any],
        group: Group,
        sql: SqlSide,
        session: Session,
        replica: Replica,
        state: State,
        *,
        applier: tuple[str, str],
        topic_ids: Mapping[str, str],
        share: float = 1.0,
        page_rows: int = PAGE_ROWS,
        patience_s: float = 60.0,
    ) -> None:
        self.sql = sql
        self.compared = compared
        self.replica = replica
        self._group = group
        self._session = session
        self._state = state
        self.applier = applier
        self._topic_ids = topic_ids
        self._sampled_below = int(share * _HASH_RANGE)
        self._page_rows = page_rows
        self._patience_s = patience_s
        self._end = compared.table.row_prefix[:-1] + b"\1"

    # --- the whole of it

    async def run(self, report: Report) -> None:
        """Compare what is not compared yet, then look again at what was doubtful.

        Raises: NotAtOnePosition, DatabaseUnavailable, StatementRefused, LogError. What was found
        until then is kept, and `run` goes on from there.
        """
        progress = self._state.progress
        while not progress.is_whole:
            await self._compare_page()
            self._state.save()
            report(progress.compared)
        for _ in range(_LOOKS_MAX):
            if not self._state.doubtful:
                break
            await self._look_again(sorted(self._state.doubtful)[:_LOOKS_PER_PAGE])
            self._state.save()
            await asyncio.sleep(_PAUSE_S)

    async def _compare_page(self) -> None:
        state = self._state
        after = state.after
        doubtful = sorted(state.doubtful)[:_LOOKS_PER_PAGE]
        position, page, again = await self._snapshot(after, doubtful)
        await self.replica.advance(position, patience_s=self._patience_s)
        for difference in self.judge(doubtful, again, position):
            self._note(difference)
        is_last = len(page) < self._page_rows
        start = self.compared.table.row_prefix if after is None else after + b"\0"
        end = self._end if is_last else page[-1][0] + b"\0"
        for number, (key, columns, row) in enumerate(_merged(page, self.replica.scan(start, end))):
            if number % 256 == 255:
                await asyncio.sleep(0)
            if not self._is_sampled(key):
                continue
            state.progress.compared += 1
            if key not in self.replica.doubtful:
                found = self._difference(key, columns, row, position)
                if found is not None:
                    self._note(found)
        state.doubtful |= {k for k in self.replica.doubtful if start <= k < end and self._is_sampled(k)}
        if page:
            state.after = page[-1][0]
        state.progress.is_whole = is_last

    async def _look_again(self, keys: Sequence[bytes]) -> None:
        for difference in await self.look(keys):
            self._note(difference)

    async def look(self, keys: Sequence[bytes]) -> Sequence[Difference]:
        """What differs among these keys at a position of now; doubtful ones are left out.

        Raises: as `run`.
        """
        position, _, rows = await self._snapshot(None, keys, with_page=False)
        await self.replica.advance(position, patience_s=self._patience_s)
        return list(self.judge(keys, rows, position))

    def partition(self, store_key: bytes) -> int:
        """Where a row lives."""
        wire = self.compared.table.keys.to_wire(self.sql.key(store_key))
        return self._group.partitioner.place(wire, self._group.partitions)

    def _note(self, difference: Difference) -> None:
        self._state.note(difference, self.compared.table.keys.to_json(difference.key))

    # --- one look

    async def _snapshot(
        self, after: bytes | None, keys: Sequence[bytes], *, with_page: bool = True
    ) -> tuple[Position, Sequence[tuple[bytes, Columns]], Mapping[bytes, Columns]]:
        """The next page and the rows of these keys, and the position that all of it stands for."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        while True:
            try:
                position = await self.pin(self._session)
                if await self.replica.is_before(position):
                    page = await self.sql.page(self._session, after, self._page_rows) if with_page else []
                    return position, page, await self.sql.rows(self._session, keys)
            finally:
                await self._session.rollback()
            if asyncio.get_running_loop().time() >= deadline:
                raise NotAtOnePosition(
                    f"the applier {'/'.join(self.applier)} did not come as far as the table within "
                    f"{self._patience_s:g} s"
                )
            await asyncio.sleep(_PAUSE_S)

    async def pin(self, session: Session) -> Position:
        """Where the applier is, as a transaction sees it."""
        return await pinned(session, self.applier, self._topic_ids)

    def judge(
        self, keys: Collection[bytes], rows: Mapping[bytes, Columns], position: Position
    ) -> Iterator[Difference]:
        """What differs among these keys at the position at which the replica is; the rest is settled, too.

        Keys that are doubtful there stay so.
        """
        for key in keys:
            if key in self.replica.doubtful:
                continue
            self._state.doubtful.discard(key)
            difference = self._difference(key, rows.get(key), self.replica.get(key), position)
            if difference is not None:
                yield difference

    def _difference(
        self, key: bytes, columns: Columns | None, row: bytes | None, position: Position
    ) -> Difference | None:
        compared = self.compared
        if row is None and columns is None:
            return None
        value = None if row is None else compared.table.values.decoded(row)
        wanted = None if row is None else compared.wanted(value)
        if columns == wanted:
            return None
        kind = Kind.EXTRA if wanted is None else Kind.MISSING if columns is None else Kind.DIFFERENT
        partition = self.partition(key)
        return Difference(
            kind=kind,
            key=self.sql.key(key),
            value=value,
            columns=None if columns is None else dict(zip(compared.columns, columns, strict=True)),
            wanted=None if wanted is None else dict(zip(compared.columns, wanted, strict=True)),
            position={
                f"{place.topic}/{place.partition}": offset
                for place, offset in sorted(position.items())
                if place.partition == partition
            },
            store_key=key,
        )

    def _is_sampled(self, key: bytes) -> bool:
        if self._sampled_below >= _HASH_RANGE:
            return True
        return int.from_bytes(blake2b(key, digest_size=8).digest()) < self._sampled_below


def _merged(
    page: Sequence[tuple[bytes, Columns]], rows: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, Columns | None, bytes | None]]:
    """Both sides by key, in order."""
    at = 0
    for key, row in rows:
        while at < len(page) and page[at][0] < key:
            yield page[at][0], page[at][1], None
            at += 1
        if at < len(page) and page[at][0] == key:
            yield key, page[at][1], row
            at += 1
        else:
            yield key, None, row
    for key, columns in page[at:]:
        yield key, columns, None
