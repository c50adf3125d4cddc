"""Deleting the rows of the time before a reset: tombstones, in units that say that more are to come."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from headrace.clock import Clock
from headrace.events.position import TopicPartition
from headrace.flow.restore import APPLY_ROWS_MAX
from headrace.log.port import Append, Outgoing, Writer
from headrace.tables.changelog import POSITION_KEY, PositionRecord, encode_position
from headrace.tables.store import Row, Store

_FIRST_KEY = b"\x01"


class Cleared(NamedTuple):
    """A unit that is committed: so many rows are gone."""

    rows: Sequence[Row]
    record: PositionRecord
    offset_next: int
    """The changelog offset after it."""


async def cleared(
    writer: Writer, changelog: TopicPartition, record: PositionRecord, store: Store, clock: Clock
) -> AsyncGenerator[Cleared, None]:
    """Delete every row of the store in the changelog, unit by unit; the last one says that it is done.

    Order: a unit is committed before it is given; the caller applies it to the store. Cancel, or a
    crash anywhere: the next take-over finds the reset unfinished and goes on with what is left.
    """
    snapshot = store.snapshot()
    try:
        keys = (key for key, _ in snapshot.scan(_FIRST_KEY, None))
        coming = _slice(keys)
        while True:
            rows, coming = coming, _slice(keys)
            record = _following(record, is_clearing=bool(coming))
            yield Cleared(rows, record, await commit(writer, changelog, record, rows, clock))
            if not coming:
                return
    finally:
        snapshot.close()


async def commit(
    writer: Writer, changelog: TopicPartition, record: PositionRecord, rows: Sequence[Row], clock: Clock
) -> int:
    """Commit a unit of rows alone; the changelog offset after it. Raises: LogError."""
    at_ms = int(clock.time() * 1000)
    records: list[Outgoing] = [(key, row, (), at_ms) for key, row in rows]
    records.append((POSITION_KEY, encode_position(record), (), at_ms))
    offsets = await writer.commit([Append(*changelog, records)])
    return offsets[changelog]


def _slice(keys: Iterator[bytes]) -> list[Row]:
    return [(key, None) for key in islice(keys, APPLY_ROWS_MAX)]


def _following(record: PositionRecord, *, is_clearing: bool) -> PositionRecord:
    assert record.reset is not None, "only a reset leaves rows to clear"
    reset = msgspec.structs.replace(record.reset, is_clearing=is_clearing)
    return msgspec.structs.replace(record, unit=record.unit + 1, reset=reset)
