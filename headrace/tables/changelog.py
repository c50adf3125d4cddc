"""What a changelog holds beside rows: the position record that ends each unit; and the mark of a store."""

from collections.abc import Mapping

import msgspec

from headrace.errors import ForkedChangelog, StoreCorrupt
from headrace.events.position import Position, TopicPartition

POSITION_KEY = b"\0position"
"""Record key of position records; no row's key begins with a zero byte."""


class InputPosition(msgspec.Struct, frozen=True, array_like=True):
    """How far a task is in one input."""

    topic_id: str
    """Identity of the topic, so that a recreated one is noticed."""
    offset_next: int


class Reset(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reset left to be heeded by the units after it; every position record carries it on."""

    muted_until: dict[str, int] = {}
    """Input to offset: what is sent for the events before it was sent already."""
    changelog_start: int = 0
    """Where the changelog began at the reset: what was deleted before is not missed."""
    is_clearing: bool = False
    """Rows of the time before the reset are left, and are to be deleted before the first event."""

    def passed(self, inputs: Mapping[str, InputPosition]) -> "Reset":
        """The same without the inputs that are beyond their muted events."""
        muted = {t: until for t, until in self.muted_until.items() if inputs[t].offset_next < until}
        return msgspec.structs.replace(self, muted_until=muted)


class PositionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last record of every unit: what the rows up to here stand for."""

    unit: int
    """Rises by one with every unit of the task, over all its owners."""
    inputs: dict[str, InputPosition]
    """Topic name to how far; the partition is the task's."""
    reset: Reset | None = None
    """None: the tables were never reset."""
    seen: bytes = b""
    """What its events' senders had seen of other topics and partitions than these, as a stamp."""
    runs: tuple[tuple[str, int], ...] = ()
    """Where inputs took turns in the unit: in this order the events of an input up to before an offset."""

    def position(self, partition: int) -> Position:
        """The position of the task's rows, with every input that the group ever had."""
        return Position({TopicPartition(t, partition): at.offset_next for t, at in self.inputs.items()})


class StoreMark(msgspec.Struct, frozen=True):
    """What a store says of itself; written in one batch with the rows it speaks of."""

    changelog_id: str
    changelog_offset_next: int
    """Where catching up with the changelog goes on."""
    position: PositionRecord | None
    """The last unit that is wholly in the store; None before the first."""
    is_restoring: bool = False
    """Rows may be newer than the position: not to be read until the changelog's end is reached."""
    at_ms: int = 0
    """When the store was last known to have all of its changelog; 0: never."""


_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(PositionRecord).decode
_decode_mark = msgspec.json.Decoder(StoreMark).decode


def encode_position(record: PositionRecord) -> bytes:
    """The value of a position record."""
    return _encode(record)


def encode_mark(mark: StoreMark) -> bytes:
    """The bytes a store keeps as its mark."""
    return _encode(mark)


def decode_mark(raw: bytes | None) -> StoreMark | None:
    """What the store says of itself; None for a new one. Raises: StoreCorrupt."""
    if raw is None:
        return None
    try:
        return _decode_mark(raw)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"the mark of the store cannot be read: {error}") from error


def follow_unit(
    last: PositionRecord | None, raw: bytes, *, topic: str, partition: int, offset: int
) -> PositionRecord:
    """The next position record of a changelog, checked against the one before. Raises: ForkedChangelog."""
    try:
        record = _decode_record(raw)
    except msgspec.MsgspecError as error:
        raise ForkedChangelog(
            f"a position record cannot be read: {error}", topic=topic, partition=partition, offset=offset
        ) from error
    if last is not None and record.unit <= last.unit:
        raise ForkedChangelog(
            f"unit {record.unit} follows unit {last.unit}", topic=topic, partition=partition, offset=offset
        )
    return record


def input_offsets(record: PositionRecord | None) -> Mapping[str, InputPosition]:
    """How far the inputs were read; empty before the first unit."""
    return record.inputs if record is not None else {}
