"""The test's own vector clocks: what came before what, told by the events themselves.

Nothing here knows of stamps, positions or offsets. Every event carries the set of all events that
its sender had handled, or had been told of; a set is a number with one bit for each event.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

import headrace
from headrace.events.position import TopicPartition
from headrace.log.port import Append
from headrace.testing.journal import Journal


class Signal(headrace.Event, frozen=True):
    """Something happened in the world of the simulation."""

    id: str
    past: str
    """Every event that happened before it, as hexadecimal digits."""
    hops: int
    """How often it may be answered by another event."""


Events = int
"""A set of events."""


def written(events: Events) -> str:
    """A set as it stands in events and rows."""
    return f"{events:x}"


def read(text: str) -> Events:
    """The set behind a text; that of an absent row is empty."""
    return int(text or "0", 16)


class Chronicle(Journal):
    """The cluster of a simulation; it notes where each signal lies as it is committed."""

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__()
        self.lying: dict[TopicPartition, Events] = {}
        """What each partition holds."""
        self.all: Events = 0
        """All that were ever committed."""
        self._topics = topics
        self._bits: dict[str, int] = {}
        self._decode = msgspec.json.Decoder(Signal).decode

    def commit(
        self, transactional_id: str, epoch: int, appends: Sequence[Append]
    ) -> Mapping[TopicPartition, int]:
        """Append all of it or nothing."""
        behind = super().commit(transactional_id, epoch, appends)
        for topic, number, records in appends:
            if topic in self._topics:
                place = TopicPartition(topic, number)
                for _, value, _, _ in records:
                    self._note(place, self._decode(value or b""))
        return behind

    def _note(self, place: TopicPartition, signal: Signal) -> None:
        bit = self.bit(signal.id)
        if self.all & bit:
            self.broken.append(f"{signal.id} was sent twice, now to {place.topic}/{place.partition}")
        if read(signal.past) & ~self.all:
            self.broken.append(
                f"{signal.id} was committed before {self.names(read(signal.past) & ~self.all)}"
            )
        self.all |= bit
        self.lying[place] = self.lying.get(place, 0) | bit

    def bit(self, event_id: str) -> Events:
        """The set of this event alone."""
        if event_id not in self._bits:
            self._bits[event_id] = 1 << len(self._bits)
        return self._bits[event_id]

    def each(self, events: Events) -> Iterator[tuple[str, Events]]:
        """Ids and sets of the events of a set, one by one."""
        return ((name, bit) for name, bit in self._bits.items() if events & bit)

    def names(self, events: Events) -> str:
        """The ids of a set, for people."""
        return " ".join(name for name, _ in self.each(events))
