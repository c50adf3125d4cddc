"""The end of a changelog partition: the position that its rows stand for."""

from contextlib import aclosing

from headrace.events.position import TopicPartition
from headrace.log.port import Log
from headrace.log.stretch import records
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit

_TAIL_RECORDS = 64


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
