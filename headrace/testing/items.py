"""What a test puts into a harness, one after the other: events, and what happens to the workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from headrace.app import App
from headrace.flow.topic import Topic


class CrashPoint(StrEnum):
    """Where in its work a worker dies."""

    READ = "read"
    """Events were fetched, and none is handled."""
    COMMIT = "commit"
    """A unit is sealed, and nothing of it was sent."""
    COMMITTED = "committed"
    """A unit is durable, and the worker does not know."""
    PUBLISH = "publish"
    """A unit is acknowledged, and no reader has seen it."""
    APPLY = "apply"
    """A unit is committed and seen, and this write of it does not reach the store."""
    RESTORE = "restore"
    """The worker, started again, is taking its tasks over."""
    QUIET = "quiet"
    """Everything is done."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A worker dies while it handles the events in front of this, and is started again.

    A point that is not reached `after` times is no way out: the worker then dies when all is done.
    """

    at: CrashPoint | str = CrashPoint.COMMIT
    after: int = 1
    """The crash strikes when the point is reached for this time."""
    keeps_store: bool = True
    """False: the disk is lost, too, and the tables are rebuilt from the changelog."""
    worker: int = 0
    app: App | None = None
    """Whose worker; the first app's unless given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", CrashPoint(self.at))


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Partitions move while the events in front of this are handled.

    One more worker joins, takes its share, and leaves again once all is quiet.
    """

    app: App | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """One more worker joins while the events in front of this are handled."""

    app: App | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A worker stops in peace while the events in front of this are handled: the last one, unless given."""

    worker: int = -1
    app: App | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A worker does not reach the log, from somewhere in the events in front of this, for so many seconds."""

    seconds: float = 10.0
    after: int = 1
    """The first of its calls to the log that gets no answer."""
    worker: int = 0
    app: App | None = None


@dataclass(frozen=True, slots=True)
class Compact:
    """The log compacts its compacted topics: of each key only the last record is left."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Time passes, once all is quiet."""

    seconds: float


class _Derived:
    """Stands for: the key that the harness finds for the event."""


DERIVED: Final = _Derived()


@dataclass(frozen=True, slots=True)
class Send:
    """An event whose topic or key cannot be told from itself."""

    topic: Topic[Any, Any] | str | None
    """None: the one topic that takes such events."""
    event: Any
    key: Any = DERIVED
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Poison:
    """Bytes from a producer that knows nothing of the topic's types."""

    value: bytes | None
    topic: Topic[Any, Any] | str | None = None
    """None: the first topic that an agent of the first app reads."""
    key: bytes | None = b"0"
    """As it is on the wire; it tells the partition, too."""
    headers: tuple[tuple[str, bytes], ...] = ()


Disturbance = Crash | Rebalance | Join | Leave | Outage | Compact | Advance
"""What is no event."""
