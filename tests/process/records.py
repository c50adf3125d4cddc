"""What lies in a log once everybody has written: records, and dead letters."""

from contextlib import aclosing
from typing import NamedTuple

from headrace.events.envelope import Headers
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.log.port import Log, Outgoing
from headrace.log.stretch import chunks


class Record(NamedTuple):
    """A committed record and its place."""

    place: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def content(self) -> Outgoing:
        """What its sender said."""
        return self.key, self.value, tuple(self.headers), self.timestamp_ms


async def read_records(log: Log, topic: str) -> list[Record]:
    """Every committed record of a topic, partition by partition."""
    info = (await log.describe([topic]))[topic]
    places = [TopicPartition(topic, partition) for partition in range(info.partitions)]
    found: list[Record] = []
    for place, held in (await log.offsets(places)).items():
        async with aclosing(chunks(log, place, held.start, held.end)) as fetched:
            async for chunk in fetched:
                columns = chunk.offsets, chunk.keys, chunk.values, chunk.headers, chunk.timestamps_ms
                found += [Record(place, *fields) for fields in zip(*columns, strict=True)]
    return found


async def read_letters(log: Log, app: str) -> list[Letter]:
    """Every dead letter of an app. Fails for a record that is none."""
    found: list[Letter] = []
    for record in await read_records(log, dead_letters_name(app)):
        letter = Letter.parse(record.key, record.value, record.headers)
        assert letter is not None, record
        found.append(letter)
    return found
