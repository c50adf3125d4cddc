"""One event of the log as it is told to people: what it says, who it is, and what its sender had seen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec

from headrace.errors import DecodeError, MalformedStamp
from headrace.events.envelope import Headers, decode_envelope, id_text, place_id
from headrace.events.event import Correction, Event
from headrace.events.position import Catalog, TopicPartition
from headrace.events.seen import NAME_BYTES, NOTHING_SEEN, Seen, partition_of
from headrace.flow.topic import Topic
from headrace.log.port import Chunk

_UNREADABLE = (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A record as it lies in the log."""

    place: TopicPartition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @classmethod
    def at(cls, chunk: Chunk, index: int) -> "Raw":
        """The record at this index of a chunk."""
        return cls(
            place=TopicPartition(chunk.topic, chunk.partition),
            offset=chunk.offsets[index],
            timestamp_ms=chunk.timestamps_ms[index],
            key=chunk.keys[index],
            value=chunk.values[index],
            headers=chunk.headers[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An event, with what a reader may want to know of it."""

    raw: Raw
    kind: str
    """Its type, as the wire names it; empty where that cannot be told."""
    event_id: str
    at_ms: int
    """When it happened, as its sender says; else the record's own time."""
    causation_id: str = ""
    correlation_id: str = ""
    seen: Seen = NOTHING_SEEN
    """What its sender had seen, as its stamp says."""
    corrects: str = ""
    """Id of the event that it corrects."""
    reason: str = ""
    problem: str = ""
    """Why it cannot be read, or not wholly."""
    corrected_by: tuple["Fact", ...] = ()
    """In log order; the last one is what holds now."""

    @property
    def place(self) -> TopicPartition:
        """The partition it lies in."""
        return self.raw.place

    @property
    def offset(self) -> int:
        """Its own offset."""
        return self.raw.offset

    def corrected(self, by: Mapping[str, list["Fact"]]) -> "Fact":
        """The same, knowing what corrects it; a correction may be corrected, too."""
        found = [each for each in by.get(self.event_id, ()) if each.event_id != self.event_id]
        if not found:
            return self
        # Without itself: two corrections that name each other must come to an end.
        others = {event_id: facts for event_id, facts in by.items() if event_id != self.event_id}
        return replace(self, corrected_by=tuple(each.corrected(others) for each in found))


def fact_of(raw: Raw, topic: Topic[Any, Any] | None) -> Fact:
    """What a record says; `topic` knows its type, None for a topic that this app does not declare."""
    problem = ""
    try:
        envelope = decode_envelope(raw.headers)
        seen = Seen.decode(envelope.stamp) if envelope else NOTHING_SEEN
    except MalformedStamp as error:
        envelope, seen, problem = decode_envelope(raw.headers), NOTHING_SEEN, error.what
    except DecodeError as error:
        envelope, seen, problem = None, NOTHING_SEEN, error.what
    event_id = envelope.event_id if envelope else place_id(*raw.place, raw.offset)
    kind, correction, unread = _content(raw, topic)
    return Fact(
        raw=raw,
        kind=kind,
        event_id=id_text(event_id),
        at_ms=(envelope.time_ms if envelope else 0) or raw.timestamp_ms,
        causation_id=id_text(envelope.causation_id) if envelope else "",
        correlation_id=id_text(envelope.correlation_id) if envelope else "",
        seen=seen,
        corrects=correction.corrects if correction else "",
        reason=correction.reason if correction else "",
        problem=problem or unread,
    )


def _content(raw: Raw, topic: Topic[Any, Any] | None) -> tuple[str, Correction[Any] | None, str]:
    """Its type, itself if it is a correction, and why it cannot be read."""
    if raw.value is None:
        return "tombstone", None, ""
    if topic is None:
        return _tag(raw.value), None, ""
    try:
        value = topic.decode(raw.value)
    except _UNREADABLE as error:
        return _tag(raw.value), None, f"it does not fit the type of its topic: {error}"
    kind = type(value).__name__ if isinstance(value, Event) else _tag(raw.value)
    return kind, value if isinstance(value, Correction) else None, ""


class _Tagged(msgspec.Struct, frozen=True):
    type: str = ""


_decode_tag = msgspec.json.Decoder(_Tagged).decode


def _tag(value: bytes) -> str:
    """The type that JSON names; empty for anything else."""
    try:
        return _decode_tag(value).type
    except _UNREADABLE:
        return ""


class Naming:
    """Readable names for what stamps name, as far as this log has it."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._name = lru_cache(maxsize=4_096)(self._named)

    def seen(self, seen: Seen) -> dict[str, int]:
        """Next offsets by partition, in name order."""
        return dict(sorted((self._name(print_), offset) for print_, offset in seen.items()))

    def _named(self, print_: bytes) -> str:
        place = self.catalog.place_of(print_)
        if place is not None:
            return f"{place.topic}/{place.partition}"
        name = self.catalog.named_by(print_)
        known = f"{name} before it was recreated" if name else f"unknown topic {print_[:NAME_BYTES].hex()}"
        return f"{known}/{partition_of(print_)}"


def carries_corrections(topic: Topic[Any, Any]) -> bool:
    """Whether a correction is among the types of a topic's events."""
    info = msgspec.inspect.type_info(topic.values.value_type)
    parts = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return any(
        isinstance(part, msgspec.inspect.StructType) and issubclass(part.cls, Correction) for part in parts
    )
