"""The position that a snapshot of the database stands for, and whether two positions are the same."""

from collections.abc import Mapping

from headrace.bridge.session import Session
from headrace.errors import SchemaMismatch
from headrace.events.position import Position, TopicPartition
from headrace.log.port import Log
from headrace.log.stretch import holds_records

_READ = """SELECT topic, topic_id, partition, offset_next FROM headrace_positions
    WHERE app = %s AND group_name = %s"""
_INPUTS = "SELECT DISTINCT topic FROM headrace_positions WHERE app = %s AND group_name = %s"
_KNOWN_MAX = 4_096


async def pinned(session: Session, applier: tuple[str, str], topic_ids: Mapping[str, str]) -> Position:
    """How far an applier is in these topics, as the session's transaction sees it.

    Shape: `applier` is app and group. Raises: SchemaMismatch for a topic that was recreated since;
    DatabaseUnavailable, StatementRefused.
    """
    found: dict[TopicPartition, int] = {}
    for topic, topic_id, partition, offset_next in await session.fetch(_READ, applier):
        if topic not in topic_ids:
            continue
        if topic_id != topic_ids[topic]:
            raise SchemaMismatch(
                f"the applier {'/'.join(applier)} stands in another topic {topic} than there is now",
                hint="The topic was deleted and created again; let the applier begin anew.",
            )
        found[TopicPartition(topic, partition)] = offset_next
    return Position(found)


async def applier_inputs(session: Session, applier: tuple[str, str]) -> frozenset[str]:
    """The topics that an applier has a position in. Raises: SchemaMismatch when it has none at all."""
    found = await session.fetch(_INPUTS, applier)
    if not found:
        raise SchemaMismatch(
            f"the database has no position of an applier {'/'.join(applier)}",
            hint="Name it as `group` or `app/group`, and let it apply at least one event.",
        )
    return frozenset(topic for (topic,) in found)


def applier_of(text: str, app: str) -> tuple[str, str]:
    """App and group of an applier that is written as `group` or `app/group`."""
    of_app, separator, group = text.rpartition("/")
    return (of_app if separator else app), group


class Stretches:
    """Tells of two offsets whether an event lies between them; what was asked of the log is remembered."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[tuple[TopicPartition, int, int], bool] = {}

    async def is_empty(self, place: TopicPartition, start: int, end: int) -> bool:
        """Whether no event lies from `start` up to before `end`; false where the log ends before."""
        if start >= end:
            return True
        asked = (place, start, end)
        if asked not in self._known:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[asked] = not await holds_records(self._log, place, start, end)
        return self._known[asked]

    async def contains(self, one: Mapping[TopicPartition, int], other: Mapping[TopicPartition, int]) -> bool:
        """Whether every event before `other` is before `one`, too; in the places of `other`."""
        for place, offset in other.items():
            if not await self.is_empty(place, one.get(place, 0), offset):
                return False
        return True
