"""What the tasks of a worker have done since it started."""

from collections import defaultdict
from dataclasses import dataclass, field

from headrace.histogram import Histogram


@dataclass(slots=True)
class AgentFigures:
    """What one agent has done in all its tasks here."""

    events: int = 0
    """Events it finished, in committed units."""
    dead_letters: int = 0
    retries: int = 0
    sent: int = 0


@dataclass(slots=True)
class RequestFigures:
    """What became of requests with an Idempotency-Key here."""

    recorded: int = 0
    """Answered by an endpoint, and recorded with what it sent."""
    repeated: int = 0
    """Answered by a record."""
    refused: int = 0
    """Under a key that is malformed or was another request's."""
    transactions: int = 0
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Events by topic."""
    commit_time: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class FlowFigures:
    """Counters of all tasks of a run."""

    events: int = 0
    units: int = 0
    rows: int = 0
    outputs: int = 0
    dead_letters: int = 0
    retries: int = 0
    takeovers: int = 0
    rebalances: int = 0
    """Assignments that the group gave this worker."""
    commit_time: Histogram = field(default_factory=Histogram)
    failures: dict[str, int] = field(default_factory=dict)
    """Closed tasks by the name of the error that closed them."""
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Records that units sent, by topic."""
    requests: RequestFigures = field(default_factory=RequestFigures)
    agents: dict[tuple[str, str], AgentFigures] = field(default_factory=lambda: defaultdict(AgentFigures))
    """By group and agent."""

    @property
    def work(self) -> int:
        """Rises with whatever is done."""
        return self.events + self.requests.recorded
