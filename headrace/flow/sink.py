"""The port to a sink: a database that a group's agents write, and that keeps the group's position with it.

What the agents of an ordinary group change is in the changelog, and so is their position. A sink has its
own transactions. The effects of a unit and its position are one of them, committed **before** the unit
is committed in the log; the sink is the authority, and the log follows:

1. The task is taken over in the log, which fences older writers, then in the sink, which fences older
   holders there and tells the last unit it has.
2. If that unit is not in the log, its position record and its dead letters are committed there first, as
   that unit, and the sink is not written: who is fenced in the log meanwhile has changed nothing.
3. A unit's effects and position are committed in the sink once the unit before it is committed in the
   log: so the log is never more than one unit behind.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from headrace.errors import HeadraceError
from headrace.log.port import Append
from headrace.settings import Settings
from headrace.tables.changelog import InputPosition, PositionRecord


class SinkRefused(Exception):
    """The sink does not take what the events of this unit wrote, and nothing says whose it was."""

    def __init__(self, error: HeadraceError) -> None:
        super().__init__(str(error))
        self.error = error


class SinkStanding(NamedTuple):
    """The last unit that a sink has."""

    unit: int
    inputs: Mapping[str, InputPosition]
    seen: bytes
    """What its events' senders had seen, as a stamp."""
    letters: Sequence[Append]
    """Dead letters of that unit, as they are to be in the log."""


class OpenSink(Protocol):
    """One partition of a sink, held by one task; it is fenced as soon as another task opens it."""

    is_open: bool
    """Whether an event is in hand: the agent may write."""

    @property
    def standing(self) -> SinkStanding | None:
        """What it had when it was opened; None before its first unit."""

    def guard(self, index_in_hand: Callable[[], int] | None) -> None:
        """Keep what each event writes apart, so that it can be taken back; None: there is no need to."""

    def roll_back(self) -> None:
        """Take back what the event in hand wrote."""

    async def flush(self) -> None:
        """Send on what was written, without committing it. Raises: StatementRefused, DatabaseUnavailable."""

    async def drop(self) -> None:
        """Forget the unit in hand. Raises: DatabaseUnavailable."""

    async def commit(self, record: PositionRecord, letters: Sequence[Append]) -> None:
        """Commit what was written, and where it stands.

        Raises: SinkRefused; DatabaseUnavailable, whose outcome the next `open` tells; ApplierFenced.
        """

    async def close(self) -> None:
        """Let go of it; what is not committed is undone."""


class Sink(Protocol):
    """A sink as an app declares it."""

    every_s: float
    """A partition is written at most once in so long; 0: as soon as there is something to write."""

    async def open(self, app: str, group: str, partition: int, settings: Settings) -> OpenSink:
        """Take a partition over, and fence whoever held it. Raises: DatabaseUnavailable, SchemaMismatch."""


active_sink: ContextVar[OpenSink] = ContextVar("active_sink")
"""Set in the context of the agents of a group with a sink."""
