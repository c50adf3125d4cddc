"""A stretch of one partition: the committed records from one offset up to another."""

from bisect import bisect_left
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from headrace.events.position import TopicPartition
from headrace.log.port import Chunk, Log, OffsetRange

_RECORDS_MAX = 10_000
_BYTES_MAX = 8 * 1024 * 1024
_LOOK_BACK = 32
_LOOK_BACK_BYTES_MAX = 1024 * 1024


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


async def last_before(log: Log, place: TopicPartition, offset: int, held: OffsetRange) -> Chunk | None:
    """The last record before an offset, alone in a chunk; None where there is none any more.

    It is seldom the one at `offset - 1`: what ends a transaction takes offsets, too.
    """
    span, end = _LOOK_BACK, min(offset, held.stable)
    while end > held.start:
        at = begin = max(held.start, end - span)
        found: Chunk | None = None
        reader = await log.reader({place: begin})
        try:
            while at < end:
                for chunk in await reader.fetch(records_max=_LOOK_BACK, bytes_max=_LOOK_BACK_BYTES_MAX):
                    index = bisect_left(chunk.offsets, end) - 1
                    if index >= 0:
                        tail = chunk.tail(index)
                        found = tail.head(1) if len(tail) > 1 else tail
                    at = chunk.offset_next
        finally:
            await reader.close()
        if found is not None or begin == held.start:
            return found
        span *= _LOOK_BACK
    return None


async def holds_records(log: Log, place: TopicPartition, start: int, end: int) -> bool:
    """Whether there is a committed record from `start` up to before `end`, or may be: the log ends before.

    Where there is none, a position at `start` and one at `end` are the same: what lies between them
    ends transactions, was aborted, or is deleted.
    """
    held = (await log.offsets([place]))[place]
    if end > held.stable:
        return True
    async with aclosing(records(log, place, max(start, held.start), end)) as found:
        async for _ in found:
            return True
    return False
