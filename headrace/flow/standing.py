"""Where a task stands, as its changelog tells: one row, and the units by the positions that end them."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from headrace.events.position import TopicPartition
from headrace.flow.group import Group
from headrace.flow.turns import Turns
from headrace.log.port import Log
from headrace.log.stretch import chunks
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit

_FENCES_MAX = 50_000
"""More units than that are told apart less finely."""


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
    held = (await log.offsets([place]))[place]
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
                        partition=partition,
                        offset=offset,
                    )
                    standing.take(record, last, chunk.timestamps_ms[index], group)
                    last = record
                if turns.is_due:
                    await turns.give()
    return standing


def thinned(fences: Sequence[Mapping[str, int]], lanes: int) -> Sequence[Mapping[str, int]]:
    """As many fences as tell anything: with one lane its end is enough."""
    return fences[-1:] if lanes < 2 else fences
