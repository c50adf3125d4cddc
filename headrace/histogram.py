"""A count of durations by how long they took; as cheap as two additions, so that hot paths can afford it."""

from bisect import bisect_left
from collections.abc import Sequence

BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Histogram:
    """Durations by the bound that they stayed under."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        """Number of durations by bound; the last one has none."""
        self.seconds = 0.0
        """All durations together."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds

    def merge(self, other: "Histogram") -> None:
        """Add what the other has counted."""
        self.counts = [own + theirs for own, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    def cumulative(self) -> Sequence[tuple[str, int]]:
        """Each bound as Prometheus writes it, and how many durations stayed under it."""
        reached, buckets = 0, []
        for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            reached += number
            buckets.append((bound, reached))
        return buckets
