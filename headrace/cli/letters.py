"""The dead letters of an app as they lie in its log, and which of them were replayed."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.log.port import Log
from headrace.log.stretch import chunks


class LetterPlace(NamedTuple):
    """Where a dead letter is in the dead-letter topic; written `partition:offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter and its place."""

    place: LetterPlace
    letter: Letter
    timestamp_ms: int
    """The time of the record in the dead-letter topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters are meant; what is left empty holds for all of them."""

    places: frozenset[LetterPlace] = field(default_factory=frozenset)
    agent: str = ""
    """Also letters that every agent of their topic refused."""
    topic: str = ""
    error: str = ""
    since_ms: int = 0

    def has(self, found: FoundLetter) -> bool:
        """Whether this letter is meant."""
        letter = found.letter
        return (
            (not self.places or found.place in self.places)
            and self.agent in ("", letter.agent)
            and self.topic in ("", letter.topic)
            and self.error in ("", letter.error)
            and letter.at_ms >= self.since_ms
        )


async def find_letters(log: Log, app: str, selection: Selection) -> AsyncGenerator[FoundLetter, None]:
    """The selected dead letters that are in the log now, by partition and offset."""
    name = dead_letters_name(app)
    info = (await log.describe([name])).get(name)
    if info is None:
        return
    places = [TopicPartition(name, partition) for partition in range(info.partitions)]
    held = await log.offsets(places)
    for place in places:
        start, end = held[place].start, held[place].end
        if selection.places:
            wanted = [each.offset for each in selection.places if each.partition == place.partition]
            # Beyond the end there is nothing to wait for, and before the start nothing is left.
            start = max(start, min(wanted, default=end))
            end = min(end, max(wanted, default=start - 1) + 1)
        async with aclosing(_letters(log, place, start, end)) as letters:
            async for found in letters:
                if selection.has(found):
                    yield found


async def _letters(
    log: Log, place: TopicPartition, start: int, end: int
) -> AsyncGenerator[FoundLetter, None]:
    async with aclosing(chunks(log, place, start, end)) as fetched:
        async for chunk in fetched:
            for index, offset in enumerate(chunk.offsets):
                if offset >= end:
                    return
                letter = Letter.parse(chunk.keys[index], chunk.values[index], chunk.headers[index])
                if letter is not None:
                    at = LetterPlace(place.partition, offset)
                    yield FoundLetter(at, letter, chunk.timestamps_ms[index])


async def find_replayed(log: Log, app: str, inputs: Iterable[str]) -> Mapping[LetterPlace, int]:
    """How often each dead letter is in these replay inputs, the ones that do not exist left out."""
    dead_letters = dead_letters_name(app)
    infos = await log.describe(list(inputs))
    counts: dict[LetterPlace, int] = {}
    for info in infos.values():
        places = [TopicPartition(info.name, partition) for partition in range(info.partitions)]
        for place, held in (await log.offsets(places)).items():
            async with aclosing(chunks(log, place, held.start, held.end)) as fetched:
                async for chunk in fetched:
                    for source in _sources(chunk.headers, dead_letters):
                        counts[source] = counts.get(source, 0) + 1
    return counts


def _sources(headers: Sequence[Sequence[tuple[str, bytes]]], dead_letters: str) -> Iterable[LetterPlace]:
    for each in headers:
        letter = Letter.parse(None, None, each, dead_letters=dead_letters)
        if letter is not None and letter.replay_of is not None:
            yield LetterPlace(letter.replay_of.partition, letter.replay_offset)
