"""A stretch of one partition: the committed records from one offset up to another."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from headrace.events.position import TopicPartition
from headrace.log.port import Chunk, Log

_RECORDS_MAX = 10_000
_BYTES_MAX = 8 * 1024 * 1024


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
