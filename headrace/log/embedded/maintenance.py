"""Retention and compaction: what the file may forget.

Both count a record's age from when it was appended, whatever its timestamp says: events with the
time of a fact long past are not forgotten the moment they arrive.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from headrace.errors import LogError
from headrace.log.embedded.batch import Columns, decode_columns, encode_columns
from headrace.log.embedded.connection import snapshot, transaction
from headrace.log.embedded.lane import Lane
from headrace.log.embedded.topics import DELETE_RETENTION_MS

logger = logging.getLogger(__name__)

ROUND_S = 60.0
"""Between two rounds."""
KEYS_MAX = 500_000
"""Keys that one pass over a partition remembers; what lies behind is left for the next round."""
_ROWS = 32
"""Batches per piece of work: the lanes are shared with everybody who reads and commits."""


class _Partition(NamedTuple):
    place: int
    is_compacted: bool
    retention_ms: int
    compaction_lag_ms: int
    start: int
    clean_until: int
    clean_records: int


class Maintenance:
    """Forgets, in short transactions between those of the writers."""

    def __init__(self, reading: Lane, writing: Lane, clock: Callable[[], float]) -> None:
        self._reading = reading
        self._writing = writing
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Do a round now and then."""
        self._task = asyncio.create_task(self._run(), name="headrace-embedded-maintenance")

    async def close(self) -> None:
        """Stop; what is done of a round stays done. Raises: what has ended the task before."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def round(self) -> None:
        """Go over every partition once."""
        now_ms = int(self._clock() * 1_000)
        for partition in await self._reading.run(_partitions):
            if partition.retention_ms >= 0:
                await self._retain(partition, now_ms)
            if partition.is_compacted:
                await self._compact(partition, now_ms)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                await self.round()
            except LogError as error:
                # Nothing is lost by forgetting later; the next round begins anew.
                logger.warning("the embedded log was not cleaned up: %s", error)

    async def _retain(self, partition: _Partition, now_ms: int) -> None:
        horizon_ms = now_ms - partition.retention_ms
        while await self._writing.run(_drop_expired, partition.place, horizon_ms):
            pass

    async def _compact(self, partition: _Partition, now_ms: int) -> None:
        end = await self._reading.run(_compactable_end, partition, now_ms - partition.compaction_lag_ms)
        if (end - partition.clean_until) * 2 < max(partition.clean_records, 2):
            return
        last_offsets: dict[bytes | None, int] = {}
        position = partition.clean_until
        while position < end and len(last_offsets) < KEYS_MAX:
            position = await self._reading.run(_gather_keys, partition.place, position, end, last_offsets)
        end, position, records = position, partition.start, 0
        tombstones_ms = now_ms - partition.compaction_lag_ms - DELETE_RETENTION_MS
        while position < end:
            position, kept = await self._writing.run(
                _rewrite, partition.place, position, end, last_offsets, tombstones_ms
            )
            records += kept
        # Last: a pass that broke off is done again, before any tombstone it relies on may go.
        await self._writing.run(_mark_clean, partition.place, end, records)


def _partitions(db: sqlite3.Connection) -> list[_Partition]:
    rows = db.execute(
        "SELECT place, is_compacted, retention_ms, compaction_lag_ms, start_offset, clean_until,"
        " clean_records FROM partitions JOIN topics USING (topic)"
        " WHERE is_compacted OR retention_ms >= 0 ORDER BY place"
    )
    return [_Partition(*row) for row in rows]


def _drop_expired(db: sqlite3.Connection, place: int, horizon_ms: int) -> bool:
    """Drop the oldest batches as far as they are older than the horizon; whether more may follow."""
    with transaction(db):
        rows = db.execute(
            "SELECT batch, offset_next, appended_ms FROM batches WHERE place = ?"
            " ORDER BY base_offset LIMIT ?",
            (place, _ROWS),
        ).fetchall()
        expired = 0
        while expired < len(rows) and rows[expired][2] < horizon_ms:
            expired += 1
        if expired:
            db.executemany("DELETE FROM batches WHERE batch = ?", [row[:1] for row in rows[:expired]])
            db.execute(
                "UPDATE partitions SET start_offset = ? WHERE place = ?", (rows[expired - 1][1], place)
            )
    return expired == _ROWS


def _compactable_end(db: sqlite3.Connection, partition: _Partition, horizon_ms: int) -> int:
    """Where compaction ends: before the first batch that is too young, and before the last one."""
    place, begin = partition.place, partition.clean_until
    with snapshot(db):
        (young,) = db.execute(
            "SELECT min(base_offset) FROM batches WHERE place = ? AND base_offset >= ? AND appended_ms > ?",
            (place, begin, horizon_ms),
        ).fetchone()
        (last,) = db.execute("SELECT max(base_offset) FROM batches WHERE place = ?", (place,)).fetchone()
    ends = [end for end in (young, last) if end is not None]
    return max(begin, min(ends, default=begin))


def _gather_keys(
    db: sqlite3.Connection, place: int, begin: int, end: int, last_offsets: dict[bytes | None, int]
) -> int:
    """Note the last offset of each key in the next batches; the result is where to go on."""
    rows = _rows(db, place, begin, end)
    for _, base, _, _, blob in rows:
        columns = decode_columns(blob, base)
        last_offsets.update(zip(columns.keys, columns.offsets, strict=True))
    return rows[-1][2] if len(rows) == _ROWS else end


def _rewrite(
    db: sqlite3.Connection,
    place: int,
    begin: int,
    end: int,
    last_offsets: dict[bytes | None, int],
    tombstones_ms: int,
) -> tuple[int, int]:
    """Drop what is overtaken from the next batches; the result is where to go on, and what was kept."""
    kept = 0
    with transaction(db):
        rows = _rows(db, place, begin, end)
        for batch, base, _, appended_ms, blob in rows:
            columns = decode_columns(blob, base)
            survivors = _survivors(columns, last_offsets, are_tombstones_expired=appended_ms < tombstones_ms)
            kept += len(survivors)
            if not survivors:
                db.execute("DELETE FROM batches WHERE batch = ?", (batch,))
            elif len(survivors) < len(columns.offsets):
                rest = columns.only(survivors)
                db.execute(
                    "UPDATE batches SET records = ?, bytes = ?, columns = ? WHERE batch = ?",
                    (len(survivors), sum(rest.sizes()), encode_columns(rest, base), batch),
                )
    return (rows[-1][2] if len(rows) == _ROWS else end), kept


def _survivors(
    columns: Columns, last_offsets: dict[bytes | None, int], *, are_tombstones_expired: bool
) -> list[int]:
    return [
        at
        for at, (offset, key, value) in enumerate(
            zip(columns.offsets, columns.keys, columns.values, strict=True)
        )
        if last_offsets.get(key, offset) <= offset and not (value is None and are_tombstones_expired)
    ]


def _mark_clean(db: sqlite3.Connection, place: int, until: int, records: int) -> None:
    with transaction(db):
        db.execute(
            "UPDATE partitions SET clean_until = ?, clean_records = ? WHERE place = ?",
            (until, records, place),
        )


def _rows(db: sqlite3.Connection, place: int, begin: int, end: int) -> list[tuple[int, int, int, int, bytes]]:
    return db.execute(
        "SELECT batch, base_offset, offset_next, appended_ms, columns FROM batches"
        " WHERE place = ? AND base_offset >= ? AND base_offset < ? ORDER BY base_offset LIMIT ?",
        (place, begin, end, _ROWS),
    ).fetchall()
