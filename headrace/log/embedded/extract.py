"""What a reader takes out of the file in one go."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.errors import OffsetOutOfRange, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.log.embedded.batch import Columns, decode_columns
from headrace.log.embedded.connection import snapshot
from headrace.log.embedded.lane import give_way

_MANY = 100
"""Records of a batch from which on decoding it takes noticeable time."""


class Wanted(NamedTuple):
    """A partition and where reading it goes on."""

    at: TopicPartition
    place: int
    position: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Decoded records of one batch; without records: what lay here is compacted away."""

    columns: Columns
    bytes: int
    offset_next: int

    def __len__(self) -> int:
        return len(self.columns.offsets)

    def split(self, count: int) -> tuple["Segment", "Segment"]:
        """The first `count` records, and the others."""
        head, tail = self.columns.between(0, count), self.columns.between(count, len(self))
        head_bytes = sum(head.sizes())
        return (
            Segment(head, head_bytes, head.offsets[-1] + 1),
            Segment(tail, self.bytes - head_bytes, self.offset_next),
        )

    def count_within(self, records_max: int, bytes_max: int) -> int:
        """How many of the first records stay within these bounds."""
        size = 0
        for count, added in enumerate(self.columns.between(0, records_max).sizes()):
            size += added
            if size > bytes_max:
                return count
        return min(records_max, len(self))


class Extract(NamedTuple):
    """What one partition had behind the position."""

    segments: Sequence[Segment]
    end: int
    is_exhausted: bool
    """Nothing more was there."""


def extract(
    db: sqlite3.Connection, wanted: Sequence[Wanted], *, records_max: int, bytes_max: int
) -> Sequence[Extract]:
    """Batches of these partitions as of one moment; about the bounds in all, but one batch of each at least.

    Raises: OffsetOutOfRange, TopicMismatch.
    """
    share = len(wanted)
    with snapshot(db):
        return [_extract(db, each, records_max // share, bytes_max // share) for each in wanted]


def _extract(db: sqlite3.Connection, wanted: Wanted, records_max: int, bytes_max: int) -> Extract:
    start, end = _range(db, wanted)
    position = wanted.position
    if not start <= position <= end:
        raise OffsetOutOfRange(
            f"the log holds {start} up to before {end}, not {position}",
            topic=wanted.at.topic,
            partition=wanted.at.partition,
            offset=position,
        )
    segments: list[Segment] = []
    records = size = 0
    for base, offset_next, batch_bytes, blob in _rows(db, wanted):
        segments.append(_segment(decode_columns(blob, base), position, batch_bytes, offset_next))
        position = offset_next
        records += len(segments[-1])
        size += batch_bytes
        if records >= records_max or size >= bytes_max:
            return Extract(segments, end, is_exhausted=position == end)
        if position < end and len(segments[-1]) > _MANY:
            give_way()
    if position < end:
        segments.append(Segment(Columns((), (), (), (), ()), 0, end))
    return Extract(segments, end, is_exhausted=True)


def _range(db: sqlite3.Connection, wanted: Wanted) -> tuple[int, int]:
    row = db.execute(
        "SELECT start_offset, end_offset FROM partitions WHERE place = ?", (wanted.place,)
    ).fetchone()
    if row is None:
        raise TopicMismatch(
            "the topic was deleted while it was read",
            hint="Start again; a recreated topic has another identity.",
            topic=wanted.at.topic,
            partition=wanted.at.partition,
        )
    return row[0], row[1]


def _rows(db: sqlite3.Connection, wanted: Wanted) -> sqlite3.Cursor:
    """Batches from the one that may hold the position; compaction may have emptied its end."""
    return db.execute(
        "SELECT base_offset, offset_next, bytes, columns FROM batches"
        " WHERE place = :place AND offset_next > :position AND base_offset >= coalesce("
        "  (SELECT max(base_offset) FROM batches WHERE place = :place AND base_offset <= :position), 0)"
        " ORDER BY base_offset",
        {"place": wanted.place, "position": wanted.position},
    )


def _segment(columns: Columns, position: int, batch_bytes: int, offset_next: int) -> Segment:
    offsets = columns.offsets
    if offsets[0] >= position:
        return Segment(columns, batch_bytes, offset_next)
    skipped = next((at for at, offset in enumerate(offsets) if offset >= position), len(offsets))
    rest = columns.between(skipped, len(offsets))
    return Segment(rest, sum(rest.sizes()), offset_next)
