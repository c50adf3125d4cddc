"""The life of a key: its events and their corrections in log order, as believed then and as corrected now."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from headrace.errors import DecodeError
from headrace.events.position import Catalog, TopicPartition
from headrace.flow.fact import Fact, Naming, Raw, carries_corrections, fact_of
from headrace.flow.lanes import merged
from headrace.flow.topic import Topic
from headrace.log.port import Log, OffsetRange, TopicInfo, catalog
from headrace.turns import Turns

Report = Callable[[int, int], None]
"""Hears how many offsets are read, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory:
    """What the log has of a key."""

    places: Sequence[TopicPartition]
    """The partitions in which the key lives: all that was read."""
    facts: Sequence[Fact]
    """In log order, the newest ones."""
    left_out: int
    """How many older ones there are."""
    is_whole: bool
    """Whether all of it was read; False when the time was up."""
    begins_at: Mapping[TopicPartition, int]
    """Partitions whose first events are deleted, and the offset at which they begin now."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a key lives in one topic."""

    topic: Topic[Any, Any]
    place: TopicPartition
    key: bytes
    """As the records have it."""


def homes(key: str, topics: Sequence[Topic[Any, Any]], infos: Mapping[str, TopicInfo]) -> list[Home]:
    """Where a key, as it is written in a URL, lives in these topics; not those of another key type."""
    found = []
    for topic in topics:
        if topic.name not in infos:
            continue
        try:
            wire = topic.keys.to_wire(topic.keys.from_text(key))
        except DecodeError:
            continue
        partition = topic.partitioner.place(wire, infos[topic.name].partitions)
        found.append(Home(topic, TopicPartition(topic.name, partition), wire))
    return found


def telling_topics(
    inputs: Sequence[Topic[Any, Any]], declared: Sequence[Topic[Any, Any]]
) -> list[Topic[Any, Any]]:
    """The topics that tell of an app's keys: its inputs, and those that carry corrections of them."""
    names = {topic.name for topic in inputs}
    return [topic for topic in declared if topic.name in names or carries_corrections(topic)]


async def naming_of(log: Log) -> Naming:
    """Names for all topics that the log has."""
    return Naming(catalog(log, {info.name: info for info in await log.topics()}))


async def key_history(
    log: Log,
    found: Sequence[Home],
    named: Catalog,
    *,
    limit: int,
    report: Report = lambda read, of: None,
    is_over: Callable[[], bool] = lambda: False,
) -> KeyHistory:
    """What the log has of a key in these places, the newest `limit` events; ends early when `is_over`."""
    by_place = {home.place: home for home in found}
    ranges = await log.offsets(list(by_place))
    newest: deque[Fact] = deque(maxlen=limit)
    corrections: dict[str, list[Fact]] = {}
    count, is_whole = 0, True
    size = sum(held.stable - held.start for held in ranges.values())
    read, turns = dict.fromkeys(ranges, 0), Turns()
    async with aclosing(merged(log, ranges, named)) as runs:
        async for chunk, start, stop in runs:
            place = TopicPartition(chunk.topic, chunk.partition)
            home = by_place[place]
            for index in range(start, stop):
                if chunk.keys[index] != home.key:
                    continue
                fact = fact_of(Raw.at(chunk, index), home.topic)
                newest.append(fact)
                count += 1
                if fact.corrects:
                    corrections.setdefault(fact.corrects, []).append(fact)
                if turns.is_due:
                    await turns.give()
            read[place] = chunk.offsets[stop - 1] + 1 - ranges[place].start
            report(sum(read.values()), size)
            if is_over():
                is_whole = False
                break
    return KeyHistory(
        places=list(by_place),
        facts=[fact.corrected(corrections) for fact in newest],
        left_out=count - len(newest),
        is_whole=is_whole,
        begins_at=begins_at(ranges),
    )


def begins_at(ranges: Mapping[TopicPartition, OffsetRange]) -> dict[TopicPartition, int]:
    """Partitions that do not hold their first records any more, and where they begin."""
    return {place: held.start for place, held in ranges.items() if held.start > 0}
