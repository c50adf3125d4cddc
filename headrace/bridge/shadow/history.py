"""What a watched row was at a position that lies behind."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from headrace.events.position import TopicPartition
from headrace.tables.watch import RowWatch, Version


class _Unknown(Enum):
    """Stands for: what is noted does not tell."""

    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN


class _Side(Enum):
    """Where a write lies, seen from a position."""

    BEFORE = "before"
    BEHIND = "behind"
    UNTOLD = "untold"
    """It is of an input that the position does not name: it goes with the write in front of it."""


def row_at(watch: RowWatch, pin: Mapping[TopicPartition, int]) -> bytes | _Unknown | None:
    """The row as the events before these offsets left it.

    The rows of the partition must have reached these offsets, and the watch must have begun before
    them. Events of several inputs take turns: where one that lies behind was handled in front of one
    that lies before, no row ever stood for this position, and the answer is UNKNOWN.
    """
    row, is_behind = watch.row, False
    for version in watch.versions:
        for side, left in _sides(version, pin):
            if side is None or (side is _Side.BEFORE and is_behind):
                return UNKNOWN
            is_behind = is_behind or side is _Side.BEHIND
            if not is_behind:
                row = left
    return row


def _sides(
    version: Version, pin: Mapping[TopicPartition, int]
) -> Iterator[tuple[_Side | None, bytes | None]]:
    """Each write of a unit with its side, None where that cannot be told, and the row that it left."""
    if version.writes is None:
        is_before = all(version.after.get(place, 0) <= offset for place, offset in pin.items())
        is_behind = all(version.before.get(place, 0) >= offset for place, offset in pin.items())
        # Both: no input moved, as when a dead letter was brought back.
        side = None if is_before == is_behind else _Side.BEFORE if is_before else _Side.BEHIND
        yield side, version.row
        return
    offsets = {place.topic: offset for place, offset in pin.items()}
    for write in version.writes:
        if write.topic not in offsets:
            yield _Side.UNTOLD, write.row
        else:
            yield (_Side.BEFORE if write.offset < offsets[write.topic] else _Side.BEHIND), write.row
