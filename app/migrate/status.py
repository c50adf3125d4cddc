"""Where a migration is, and what it has found so far: what the page and the report are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.before.stage import Stage
from app.migrate.checkpoint import Checkpoint
from app.migrate.frontdoor import Side
from app.migrate.readers import Tally

_PACE_MIN = 0.75


@dataclass(frozen=True, slots=True)
class Load:
    """A stretch of time at one pace of trade and reads."""

    seconds: float
    statements_per_s: Mapping[str, float]
    """By who sends them."""
    baskets_per_s: float
    reads_per_s: float

    @property
    def total(self) -> float:
        """Statements per second on the shared database."""
        return sum(self.statements_per_s.values())


@dataclass(slots=True)
class Status:
    """All of it; the steps write here, and others look."""

    database: str
    baskets_per_s: float
    """What is to be sold while the load is measured, and what is to be read."""
    reads_per_s: float
    tally: Tally
    step: str = "starting"
    steps: list[str] = field(default_factory=list)
    stage: Stage = Stage.SHARED
    side: Side = Side.DATABASE
    is_bridged: bool = False
    """Whether bridge and new loyalty run."""
    is_alone: bool = False
    """Whether the new loyalty runs where no database can be reached."""
    baskets: int = 0
    redemptions: int = 0
    now: Load | None = None
    before: Load | None = None
    after: Load | None = None
    shadow_agreed: int = 0
    shadow_differing: int = 0
    diffs: list[Mapping[str, Any]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    missing: int = 0
    """Facts that were sold and are not in the log at the end, or are there twice."""
    is_done: bool = False
    seconds: float = 0.0

    @property
    def is_load_comparable(self) -> bool:
        """Whether trade and reads kept their pace both times; a machine that is too busy proves nothing."""
        return all(
            load is not None
            and load.baskets_per_s >= _PACE_MIN * self.baskets_per_s
            and load.reads_per_s >= _PACE_MIN * self.reads_per_s
            for load in (self.before, self.after)
        )
