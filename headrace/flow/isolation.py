"""What is known of a task's bad events: it outlives the take-overs between which they are found."""

from collections.abc import Mapping

from headrace.errors import HeadraceError, TooManyDeadLetters
from headrace.flow.decoding import Place
from headrace.flow.policy import IN_A_ROW_MAX
from headrace.log.port import Chunk

_GUARDED_EVENTS = 100_000
"""How long the events of a task are guarded after one was refused: where one is bad, more follow."""


class Isolation:
    """Narrows units down to the event that cannot be committed, and counts dead letters in a row."""

    def __init__(self) -> None:
        self.events_max: int | None = None
        """Most events of a unit, while a refused commit is narrowed down; None: no bound."""
        self.refused: dict[tuple[str, int], HeadraceError] = {}
        """Events, by input and offset, with which no unit can be committed, and why."""
        self._guarded_events_left = 0
        self._in_a_row: dict[str, int] = {}
        self._in_a_row_committed: dict[str, int] = {}

    def refused_in(self, chunk: Chunk) -> Mapping[int, HeadraceError]:
        """The events of a chunk that are known to be bad, by index."""
        if not self.refused:
            return {}
        places = ((index, (chunk.topic, offset)) for index, offset in enumerate(chunk.offsets))
        return {index: self.refused[place] for index, place in places if place in self.refused}

    @property
    def is_guarding(self) -> bool:
        """Whether an event was refused not long ago."""
        return self._guarded_events_left > 0

    def guard(self) -> None:
        """Guard the events to come."""
        self._guarded_events_left = _GUARDED_EVENTS

    def unit_began(self) -> None:
        """Dead letters of a unit that was dropped do not count."""
        self._in_a_row = dict(self._in_a_row_committed)

    def unit_ended(self, events: int) -> None:
        """A unit goes on to its commit."""
        self._in_a_row_committed = dict(self._in_a_row)
        self._guarded_events_left = max(0, self._guarded_events_left - events)

    def committed(self, events: int, events_max: int) -> None:
        """A unit was committed; a bound on units loosens."""
        if self.events_max is not None and events >= self.events_max:
            self.events_max = 2 * self.events_max if 2 * self.events_max < events_max else None

    def commit_refused(self, events: int, place: tuple[str, int], error: HeadraceError) -> None:
        """The log took a unit of so many events not; `place` is its last one."""
        if events > 1:
            self.events_max = events // 2
        else:
            self.events_max = None
            self.refused[place] = error

    def succeeded(self, agent: str) -> None:
        """The agent finished an event."""
        if self._in_a_row.get(agent):
            self._in_a_row[agent] = 0

    def failed(self, agent: str, error: HeadraceError, place: Place) -> None:
        """The agent refused an event for good. Raises: TooManyDeadLetters."""
        self._in_a_row[agent] = self._in_a_row.get(agent, 0) + 1
        if self._in_a_row[agent] >= IN_A_ROW_MAX:
            what = f"agent {agent} refused {IN_A_ROW_MAX} events in a row, the last one because {error.what}"
            raise TooManyDeadLetters(what, **place) from error
