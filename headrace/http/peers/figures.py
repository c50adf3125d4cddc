"""What is counted about hops to other workers."""

from collections import Counter
from collections.abc import Iterator
from enum import Enum

from headrace.histogram import Histogram
from headrace.http import metric as declared
from headrace.http.metric import Sample


class HopKind(Enum):
    """What another worker is asked for."""

    READ = "read"
    SCAN = "scan"
    STREAM = "stream"
    REQUEST = "request"


class HopFigures:
    """Hops by kind: answered ones by how long they took, failed ones by why."""

    def __init__(self) -> None:
        self._times = {kind: Histogram() for kind in HopKind}
        self._failures: Counter[tuple[HopKind, str]] = Counter()

    def answered(self, kind: HopKind, seconds: float) -> None:
        """Count a hop that was answered, however."""
        self._times[kind].add(seconds)

    def failed(self, kind: HopKind, reason: str) -> None:
        """Count a hop that was not answered."""
        self._failures[kind, reason] += 1

    def samples(self) -> Iterator[Sample]:
        """Everything as of now."""
        for kind, times in self._times.items():
            yield Sample(declared.HOP_TIME, (kind.value,), times)
        for (kind, reason), number in sorted(self._failures.items(), key=lambda item: item[0][1]):
            yield Sample(declared.HOP_FAILURES, (kind.value, reason), number)
