"""Catching a store up with its changelog, up to the end that the changelog has when it begins."""

import asyncio
from collections.abc import Sequence

from headrace.clock import Clock
from headrace.errors import ForkedChangelog, OffsetOutOfRange, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.log.port import Chunk, Log, OffsetRange
from headrace.tables.changelog import (
    POSITION_KEY,
    PositionRecord,
    StoreMark,
    decode_mark,
    encode_mark,
    follow_unit,
)
from headrace.tables.store import Row, Store
from headrace.tables.view import PartitionView

_RESTORE_RECORDS_MAX = 5_000
_RESTORE_BYTES_MAX = 4 * 1024 * 1024
APPLY_ROWS_MAX = 400
"""Rows of one write batch: rocksdict holds the GIL while it writes, 1,000 rows took up to 5 ms."""


class Restore:
    """Catches one store up with its changelog partition."""

    def __init__(
        self, store: Store, changelog: TopicPartition, changelog_id: str, view: PartitionView, clock: Clock
    ) -> None:
        self._store = store
        self._changelog = changelog
        self._changelog_id = changelog_id
        self._view = view
        self._clock = clock
        mark = decode_mark(store.mark)
        if mark is not None and mark.changelog_id != changelog_id:
            raise TopicMismatch(
                "the changelog was recreated since this store was written",
                topic=changelog.topic,
                partition=changelog.partition,
                hint="If it was deleted to begin anew, remove the group's stores below HEADRACE_DATA, too: "
                "the tables are rebuilt from the inputs, and what their events send is sent again.",
            )
        self._was_restoring = mark.is_restoring if mark else False
        self._is_within_unit = False
        self.last: PositionRecord | None = mark.position if mark else None
        self.offset_next = mark.changelog_offset_next if mark else 0
        self._at_ms = mark.at_ms if mark else self._now_ms()

    async def run(
        self, log: Log, held: OffsetRange, *, may_be_cut: bool = False, to_unit_end: bool = False
    ) -> None:
        """Apply the changelog up to the end of what it holds. Raises: OffsetOutOfRange, ForkedChangelog.

        A new store refuses a changelog whose beginning was deleted, unless it `may_be_cut`.
        `to_unit_end`: an owner goes on writing, and what it holds may end within a unit; read all of that.
        """
        is_new = self._store.mark is None
        if is_new:
            self.offset_next = held.start
        elif not held.start <= self.offset_next <= held.end:
            raise self._out_of_range(held)
        began_ms = self._now_ms()
        self._view.restore_offset = self._view.restore_start = self.offset_next
        self._view.restore_end = held.end
        if self.offset_next < held.end:
            self._write_mark([], is_restoring=True)
            await self._read(log, held.end, to_unit_end=to_unit_end)
        elif not is_new and not self._was_restoring:
            return
        if is_new and not may_be_cut:
            self._check_whole(held)
        self._at_ms = began_ms
        self._write_mark([], is_restoring=False)

    def _out_of_range(self, held: OffsetRange) -> OffsetOutOfRange:
        stands = f"the store stands at changelog offset {self.offset_next}, and the changelog holds "
        if self.offset_next < held.start:
            hint = (
                "Changelog records were deleted before they were read; a changelog must be compacted only. "
                "`headrace reset GROUP` rebuilds the tables from the inputs."
            )
        else:
            hint = (
                "The changelog lost its end (restored from an older copy, or an unclean leader election). "
                "Remove the store's folder: the tables go back to what the changelog holds, and what the "
                "events after it send is sent again."
            )
        return OffsetOutOfRange(
            f"{stands}{held.start} to {held.end}",
            topic=self._changelog.topic,
            partition=self._changelog.partition,
            hint=hint,
        )

    def _check_whole(self, held: OffsetRange) -> None:
        """Refuse a changelog whose beginning was deleted: rows that were written there are missing."""
        reset = self.last.reset if self.last else None
        if held.start > (reset.changelog_start if reset else 0):
            raise OffsetOutOfRange(
                f"the changelog begins at offset {held.start}: rows that were written before it are lost",
                topic=self._changelog.topic,
                partition=self._changelog.partition,
                hint="A changelog must be compacted only, never deleted from. `headrace reset GROUP` "
                "rebuilds the tables from the inputs.",
            )

    async def _read(self, log: Log, end: int, *, to_unit_end: bool) -> None:
        reader = await log.reader({self._changelog: self.offset_next})
        try:
            while self.offset_next < end or (to_unit_end and self._is_within_unit):
                for chunk in await reader.fetch(
                    records_max=_RESTORE_RECORDS_MAX, bytes_max=_RESTORE_BYTES_MAX
                ):
                    await self._apply(chunk)
        finally:
            await reader.close()

    async def _apply(self, chunk: Chunk) -> None:
        for start in range(0, len(chunk), APPLY_ROWS_MAX):
            stop = min(start + APPLY_ROWS_MAX, len(chunk))
            rows = self._rows(chunk, start, stop)
            self.offset_next = chunk.offset_next if stop == len(chunk) else chunk.offsets[stop]
            self._write_mark(rows, is_restoring=True)
            self._view.restore_offset = self.offset_next
            await asyncio.sleep(0)
        self.offset_next = chunk.offset_next
        self._view.restore_offset = self.offset_next

    def _rows(self, chunk: Chunk, start: int, stop: int) -> list[Row]:
        rows: list[Row] = []
        keys, values = chunk.keys[start:stop], chunk.values[start:stop]
        for index, (key, value) in enumerate(zip(keys, values, strict=True), start):
            self._is_within_unit = key != POSITION_KEY
            if not self._is_within_unit:
                self.last = follow_unit(
                    self.last,
                    value or b"",
                    topic=chunk.topic,
                    partition=chunk.partition,
                    offset=chunk.offsets[index],
                )
            else:
                rows.append((row_key(chunk, index), value))
        return rows

    def _write_mark(self, rows: Sequence[Row], *, is_restoring: bool) -> None:
        mark = StoreMark(self._changelog_id, self.offset_next, self.last, is_restoring, self._at_ms)
        self._store.write(rows, encode_mark(mark))

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def row_key(chunk: Chunk, index: int) -> bytes:
    """The store key of a changelog record that holds a row. Raises: ForkedChangelog."""
    key = chunk.keys[index]
    if not key or key[0] == 0:
        raise ForkedChangelog(
            f"a changelog record has the key {key!r}, which no row has",
            topic=chunk.topic,
            partition=chunk.partition,
            offset=chunk.offsets[index],
            hint="Something else writes into this changelog; give it back to headrace alone.",
        )
    return key
