"""A changelog partition as it is in the log: its records, and the position they end at."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from headrace.events.position import TopicPartition
from headrace.log.port import Chunk, Log
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit

_RECORDS_MAX = 10_000
_BYTES_MAX = 8 * 1024 * 1024
_TAIL_RECORDS = 64


class Record(NamedTuple):
    """One record of a partition."""

    offset: int
    key: bytes | None
    value: bytes | None


async def chunks(log: Log, place: TopicPartition, start: int, end: int) -> AsyncGenerator[Chunk, None]:
    """The committed records from `start` up to before `end`, as they are fetched.

    Shape: the last chunk may hold records at and after `end`, if they were committed meanwhile.
    """
    if start >= end:
        return
    reader = await log.reader({place: start})
    try:
        while start < end:
            for chunk in await reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
                yield chunk
                start = chunk.offset_next
    finally:
        await reader.close()


async def records(log: Log, place: TopicPartition, start: int, end: int) -> AsyncGenerator[Record, None]:
    """The committed records from `start` up to before `end`."""
    async with aclosing(chunks(log, place, start, end)) as fetched:
        async for chunk in fetched:
            for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
                if offset < end:
                    yield Record(offset, key, value)


async def last_position(log: Log, place: TopicPartition, start: int, end: int) -> PositionRecord | None:
    """The newest position record of a changelog partition that holds `start` to `end`; None when empty.

    Raises: ForkedChangelog.
    """
    span = _TAIL_RECORDS
    while True:
        begin = max(start, end - span)
        last: PositionRecord | None = None
        async with aclosing(records(log, place, begin, end)) as tail:
            async for record in tail:
                if record.key == POSITION_KEY:
                    last = follow_unit(
                        last,
                        record.value or b"",
                        topic=place.topic,
                        partition=place.partition,
                        offset=record.offset,
                    )
        if last is not None or begin == start:
            return last
        span *= 16
