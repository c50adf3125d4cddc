"""Events per second, from two boards and the time between them."""

from collections.abc import Mapping
from typing import NamedTuple

from headrace.http.whiteboard.board import Board


class Sample(NamedTuple):
    """Counters of one board at one time."""

    at_s: float
    read: Mapping[str, int]
    sent: Mapping[str, int]
    agents: Mapping[str, int]


def sample(board: Board, at_s: float) -> Sample:
    """The counters of this board; `at_s` is a time that only rises."""
    return Sample(
        at_s,
        {topic.name: topic.events_read for topic in board.topics},
        {topic.name: topic.events_sent for topic in board.topics},
        {agent.name: agent.events for agent in board.agents},
    )


class Rates:
    """Events per second between two samples; None while there is only one."""

    def __init__(self, before: Sample | None = None, after: Sample | None = None) -> None:
        self._before, self._after = before, after
        self._seconds = after.at_s - before.at_s if before and after else 0.0

    def read(self, topic: str) -> float | None:
        """Events of a topic that were applied."""
        return self._rate(0, topic)

    def sent(self, topic: str) -> float | None:
        """Events sent to a topic."""
        return self._rate(1, topic)

    def agent(self, name: str) -> float | None:
        """Events that an agent finished."""
        return self._rate(2, name)

    @property
    def all_events(self) -> float | None:
        """Events of all topics that were applied."""
        if self._after is None or self._seconds <= 0:
            return None
        return sum(self.read(topic) or 0.0 for topic in self._after.read)

    def _rate(self, which: int, name: str) -> float | None:
        if self._before is None or self._after is None or self._seconds <= 0:
            return None
        before = (self._before.read, self._before.sent, self._before.agents)[which]
        after = (self._after.read, self._after.sent, self._after.agents)[which]
        # A worker that started anew counts from zero.
        return max(0, after.get(name, 0) - before.get(name, 0)) / self._seconds
