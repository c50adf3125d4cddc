"""What one run of a comparison is given, and what it comes to."""

from dataclasses import dataclass
from pathlib import Path

from bench.orders import Orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one run is given."""

    run: str
    """Unique; names the app, so that it starts without state."""
    broker: str
    topic: str
    folder: Path
    """Empty; for state and output."""
    orders: Orders
    """As many as are to be handled; the topic may hold more."""
    embedded: Path = Path()
    """Folder of an embedded log that holds the same events; copied, never changed."""
    job: str = "table"
    """`table`: one row per article is kept; `outputs`: and one event sent for each; `agents`: and a
    second agent keeps a row of its own."""
    partitions: int = 1
    workers: int = 1
    is_held_back: bool = False
    """Whether the topic is filled by the run itself, and shows its events only once everybody is ready."""

    @property
    def outputs_topic(self) -> str:
        """Where the job `outputs` sends."""
        return f"{self.run}.reservations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run came to."""

    events: int
    seconds: float
    cpu_seconds: float
    total: int
    """What the contender's table sums up to."""
    rss_mib: float = 0.0
    """What the process held at the end; of headrace only."""
    outputs: int | None = None
    """How many committed events it has sent; None where it is to send none."""
    loop_late_ms: tuple[float, float] | None = None
    """How late a 5 ms timer on its loop was, p50 and p99; of headrace only."""
