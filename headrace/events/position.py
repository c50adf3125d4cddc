"""How far: a vector of next offsets by topic name, and the catalog that tells who a name is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from headrace.events.seen import (
    NAME_BYTES,
    TOPIC_BYTES,
    Print,
    Seen,
    partition_of,
    partition_print,
    topic_print,
)


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Position(Mapping[TopicPartition, int]):
    """For each partition the offset that comes next; immutable. A partition left out stands at 0."""

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        self._offsets = dict(offsets or {})

    def __getitem__(self, place: TopicPartition) -> int:
        return self._offsets[place]

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __hash__(self) -> int:
        return hash(frozenset(self._offsets.items()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{t}/{p}: {o}" for (t, p), o in sorted(self._offsets.items()))
        return f"Position({inside})"

    def covers(self, other: "Position") -> bool:
        """Whether everything before `other` is also before this position (component-wise >=)."""
        mine = self._offsets
        return all(mine.get(place, 0) >= offset for place, offset in other._offsets.items())

    def merge(self, other: "Position") -> "Position":
        """The least position that covers both (component-wise max)."""
        merged = dict(self._offsets)
        for place, offset in other._offsets.items():
            if offset > merged.get(place, -1):
                merged[place] = offset
        return Position(merged)

    def only(self, places: Iterable[TopicPartition]) -> "Position":
        """The components of these partitions."""
        return Position({place: self._offsets[place] for place in places if place in self._offsets})


@dataclass(frozen=True)
class Catalog:
    """Which cluster this is and which topics, by identity and not by name alone."""

    cluster_id: str
    topic_ids: Mapping[str, str]
    """Topic name to the id that the log gave it when it was created."""

    @cached_property
    def _names(self) -> Mapping[bytes, str]:
        """The part of a print that stands for the name, to the topic."""
        prints = {topic: topic_print(topic, topic_id) for topic, topic_id in self.topic_ids.items()}
        return {print_[:NAME_BYTES]: topic for topic, print_ in prints.items()}

    def print_of(self, place: TopicPartition) -> Print:
        """The print of a partition of a topic in this catalog."""
        return partition_print(topic_print(place.topic, self.topic_ids[place.topic]), place.partition)

    def place_of(self, print_: Print) -> TopicPartition | None:
        """The partition with this print; None for a topic that is not here, or was recreated since."""
        topic = self.named_by(print_)
        if topic is None or topic_print(topic, self.topic_ids[topic]) != print_[:TOPIC_BYTES]:
            return None
        return TopicPartition(topic, partition_of(print_))

    def named_by(self, print_: Print) -> str | None:
        """The topic here that has the name in this print, even if it is not the same topic any more."""
        return self._names.get(print_[:NAME_BYTES])

    def seen(self, position: Position) -> Seen:
        """A position as what was seen; its topics must be in this catalog."""
        return Seen({self.print_of(place): offset for place, offset in position.items()})

    def position(self, seen: Seen) -> Position:
        """The part of what was seen that is of this catalog's topics."""
        places = ((self.place_of(print_), offset) for print_, offset in seen.items())
        return Position({place: offset for place, offset in places if place is not None})
