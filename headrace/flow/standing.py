"""Where a task stands, as its changelog tells: one row, and the units by the positions that end them."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from headrace.events.position import TopicPartition
from headrace.flow.group import Group
from headrace.log.port import Log, OffsetRange
from headrace.log.stretch import chunks
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit
from headrace.tables.view import PartitionView
from headrace.turns import Turns

_FENCES_MAX = 50_000
"""More units than that are told apart less finely."""
_NEWEST_RECORDS = 50_000
"""So much of a changelog is read for the units behind a row that is known already."""


@dataclass(slots=True)
class Standing:
    """A row and what it stands for, read from the changelog."""

    row: bytes | None = None
    fences: list[Mapping[str, int]] = field(default_factory=list)
    """Next offsets by input behind each unit since the tables were begun, as far as they are known still."""
    starts: Mapping[str, int] = field(default_factory=dict)
    """Inputs that were not read from their beginning."""
    begun_ms: int = 0
    """When the tables were begun by a reset; 0: they were not."""
    is_beginning_known: bool = True
    """False: they were reset, and when that was is not in the changelog any more."""

    def end(self) -> Mapping[str, int]:
        """The position that the row stands for."""
        return self.fences[-1] if self.fences else {}

    def take(self, record: PositionRecord, before: PositionRecord | None, at_ms: int, group: Group) -> None:
        """The next unit."""
        offsets = {topic: at.offset_next for topic, at in record.inputs.items()}
        if before is None:
            # The first unit of a group that begins at the end of an input has no events: it says so.
            latest = group.starts_latest if record.unit == 1 else ()
            self.starts = {topic: offsets[topic] for topic in latest if topic in offsets}
            self.is_beginning_known = record.reset is None
        is_reset = record.reset is not None and record.reset.is_clearing
        if is_reset:
            self.starts, self.fences = offsets, []
            self.begun_ms, self.is_beginning_known = at_ms, True
        self.fences.append(offsets)
        if len(self.fences) > _FENCES_MAX:
            # What comes before what is still true of the units that are left; the last one stays.
            self.fences = self.fences[::-2][::-1]


async def read_standing(log: Log, group: Group, partition: int, row_key: bytes) -> Standing:
    """The newest committed row of a store key, and the units behind it. Raises: ForkedChangelog."""
    place = TopicPartition(group.changelog, partition)
    return await _read(log, group, place, (await log.offsets([place]))[place], row_key)


async def _read(log: Log, group: Group, place: TopicPartition, held: OffsetRange, row_key: bytes) -> Standing:
    standing, turns = Standing(), Turns()
    last: PositionRecord | None = None
    async with aclosing(chunks(log, place, held.start, held.stable)) as fetched:
        async for chunk in fetched:
            for index, (offset, key) in enumerate(zip(chunk.offsets, chunk.keys, strict=True)):
                if offset >= held.stable:
                    break
                if key == row_key:
                    standing.row = chunk.values[index]
                elif key == POSITION_KEY:
                    record = follow_unit(
                        last,
                        chunk.values[index] or b"",
                        topic=place.topic,
                        partition=place.partition,
                        offset=offset,
                    )
                    standing.take(record, last, chunk.timestamps_ms[index], group)
                    last = record
                if turns.is_due:
                    await turns.give()
    return standing


async def standing_of(log: Log, group: Group, view: PartitionView, row_key: bytes) -> Standing:
    """The row that a running worker has of a key, and the newest units behind it.

    Raises: StillRecovering, NotOwner, StoreCorrupt, ForkedChangelog.
    """
    place = TopicPartition(group.changelog, view.partition)
    # In one turn of the loop: a publish cannot come in between.
    row, position, replay_next = view.get(row_key), view.position, view.replay_offset_next
    end = {at.topic: offset for at, offset in position.items()} | {group.replay: replay_next}
    held = (await log.offsets([place]))[place]
    newest = held._replace(start=max(held.start, held.stable - _NEWEST_RECORDS))
    standing = await _read(log, group, place, newest, row_key)
    # The log may be some units ahead of what was taken from the view.
    behind = (fence for fence in standing.fences if all(fence.get(t, 0) <= at for t, at in end.items()))
    standing.row, standing.fences = row, [*behind, end]
    return standing


def thinned(fences: Sequence[Mapping[str, int]], lanes: int) -> Sequence[Mapping[str, int]]:
    """As many fences as tell anything: with one lane its end is enough."""
    return fences[-1:] if lanes < 2 else fences
