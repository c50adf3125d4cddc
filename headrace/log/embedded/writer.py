"""The transactional writer: a unit is one SQLite transaction, guarded by an epoch row."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headrace.errors import Fenced, LogError, RecordRefused
from headrace.events.position import TopicPartition
from headrace.log.embedded.batch import batches, encode_records
from headrace.log.embedded.connection import transaction
from headrace.log.embedded.lane import Lane, give_way
from headrace.log.port import Append, Closing

EndsSink = Callable[[Mapping[int, int]], None]
"""Takes the new end of each place; called in the thread that committed."""


def begin_epoch(db: sqlite3.Connection, transactional_id: str) -> int:
    """The next epoch of an id: every commit under an older one is refused from here on."""
    with transaction(db):
        (epoch,) = db.execute(
            "INSERT INTO epochs VALUES (?, 1)"
            " ON CONFLICT (transactional_id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
            (transactional_id,),
        ).fetchone()
    return int(epoch)


class _Partition(NamedTuple):
    place: int
    end: int
    is_compacted: int
    record_bytes_max: int


class EmbeddedWriter:
    """The holder of one transactional id in one epoch."""

    def __init__(
        self, lane: Lane, transactional_id: str, epoch: int, *, clock: Callable[[], float], ends: EndsSink
    ) -> None:
        self._lane = lane
        self._transactional_id = transactional_id
        self._epoch = epoch
        self._clock = clock
        self._ends = ends
        self._is_usable = True

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """Append all of it in one transaction; see the port."""
        if not self._is_usable:
            raise LogError(
                f"the writer {self._transactional_id!r} has failed or was closed", hint="Take a new one."
            )
        self._is_usable = False
        offsets = await self._lane.run(self._commit, appends, closing)
        self._is_usable = True
        return offsets

    async def close(self) -> None:
        """Let go of the id; nothing is held open between commits."""
        self._is_usable = False

    def _commit(
        self, db: sqlite3.Connection, appends: Sequence[Append], closing: Closing | None
    ) -> Mapping[TopicPartition, int]:
        appended_ms = int(self._clock() * 1_000)
        ends: dict[int, int] = {}
        offsets: dict[TopicPartition, int] = {}
        with transaction(db):
            self._check_epoch(db)
            for append in appends:
                place, end = _append(db, append, appended_ms)
                ends[place] = offsets[TopicPartition(append.topic, append.partition)] = end
            if closing is not None:
                last = Append(closing.topic, closing.partition, closing.records(dict(offsets)))
                place, end = _append(db, last, appended_ms)
                ends[place] = offsets[TopicPartition(last.topic, last.partition)] = end
        # From this thread, not from `commit`: readers must hear of it even if the caller was cancelled.
        self._ends(ends)
        return offsets

    def _check_epoch(self, db: sqlite3.Connection) -> None:
        query = "SELECT epoch FROM epochs WHERE transactional_id = ?"
        (epoch,) = db.execute(query, (self._transactional_id,)).fetchone()
        if epoch != self._epoch:
            raise Fenced(f"another holder of {self._transactional_id!r} has taken over")


def _append(db: sqlite3.Connection, append: Append, appended_ms: int) -> tuple[int, int]:
    """Insert the records batch by batch: between two of them the event loop runs."""
    partition = _partition(db, append)
    base = partition.end
    end = base + len(append.records)
    for batch in batches(
        append.records,
        record_bytes_max=partition.record_bytes_max,
        is_keyed=bool(partition.is_compacted),
        topic=append.topic,
        partition=append.partition,
    ):
        count = len(batch.records)
        db.execute(
            "INSERT INTO batches (place, base_offset, offset_next, appended_ms, records, bytes, columns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                partition.place,
                base,
                base + count,
                appended_ms,
                count,
                batch.bytes,
                encode_records(batch.records),
            ),
        )
        base += count
        if base < end:
            give_way()
    db.execute("UPDATE partitions SET end_offset = ? WHERE place = ?", (base, partition.place))
    return partition.place, base


def _partition(db: sqlite3.Connection, append: Append) -> _Partition:
    row = db.execute(
        "SELECT place, end_offset, is_compacted, record_bytes_max FROM partitions JOIN topics USING (topic)"
        " WHERE name = ? AND partition = ?",
        (append.topic, append.partition),
    ).fetchone()
    if row is None:
        raise RecordRefused(
            "there is no such partition to append to",
            hint="Provision the topic first.",
            topic=append.topic,
            partition=append.partition,
        )
    return _Partition(*row)
