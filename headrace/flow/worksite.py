"""What all tasks of one run of a worker share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.flow.figures import FlowFigures
from headrace.flow.room import Room
from headrace.log.port import Log, TopicInfo
from headrace.settings import Settings
from headrace.tables.globalview import GlobalView
from headrace.tables.store import StoreEngine
from headrace.vitals import Vitals

if TYPE_CHECKING:
    from headrace.flow.spans import Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Worksite:
    """What all tasks of one run share."""

    app: str
    log: Log
    engine: StoreEngine
    settings: Settings
    topics: Mapping[str, TopicInfo]
    figures: FlowFigures
    clock: Clock = SYSTEM_CLOCK
    spans: "Spans | None" = None
    dead_letter_bytes_max: int | None = None
    """The largest record that the dead-letter topic takes; None: unknown."""
    vitals: Vitals = field(default_factory=Vitals)
    """Where agents show that they go on."""
    room: Room = field(default_factory=Room)
    globals: Sequence[GlobalView] = ()
    """The app's global tables, followed by this worker."""

    def followed_by(self, group: str) -> Sequence[GlobalView]:
        """The global tables that agents of a group may read: all but the one that they write."""
        return [followed for followed in self.globals if followed.group != group]
