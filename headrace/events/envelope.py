"""What travels with an event beside its value: identity, time, causes, and what its sender had seen."""

import hashlib
import struct
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

from headrace.errors import DecodeError

Headers = Sequence[tuple[str, bytes]]
"""Record headers in wire order; names may repeat."""

HEADER = "hr"
_FIXED = struct.Struct(">BB16sq")  # version, flags, event id, time in ms
_VERSION = 1
_HAS_CORRELATION, _HAS_CAUSATION = 1, 2
_HAS_BOTH = _HAS_CORRELATION | _HAS_CAUSATION
STAMP_AT = (_FIXED.size, _FIXED.size + 16, _FIXED.size + 16, _FIXED.size + 32)
"""Where the stamp begins in the compact header, by its flags."""
_SOURCE_PLACE = struct.Struct(">qi")
_TAIL = struct.Struct(">Q")
_VARIANT = 1 << 63
_IS_HASHED = 1 << 61
_INDEX_BITS = 16
_OFFSET_END, _INDEX_END = 1 << 45, 1 << _INDEX_BITS
_PLACES_CACHED = 4_096


class EnvelopeFormat(StrEnum):
    """How the envelope is written into record headers."""

    COMPACT = "headrace"
    CLOUDEVENTS = "cloudevents"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """Identity, time and causes of one event."""

    event_id: bytes
    """16 bytes; the text form is a UUID's."""
    time_ms: int
    """When the fact happened at its sender, in milliseconds since the epoch, UTC."""
    correlation_id: bytes = b""
    """Id of the event that began the conversation; empty: this one did."""
    causation_id: bytes = b""
    """Id of the event whose handling sent this one; empty: none did."""
    stamp: bytes = b""
    """What the sender had seen, encoded; empty: nothing is said."""


class EventIds:
    """Deterministic ids for the events that one task sends, so that consumers can dedupe.

    Shape: 16 bytes, marked as a version 8 UUID (RFC 9562): 60 bits hashed from app, group, the source's
    topic and partition; then the source's offset and the index of the output, or 61 bits hashed from
    both where they are too large for that.
    """

    def __init__(self, app: str, group: str, topic: str, partition: int) -> None:
        place = "\0".join((app, group, topic, str(partition)))
        self._seed = hashlib.blake2b(place.encode(), digest_size=16)
        hashed = self._seed.digest()
        self._head = hashed[:6] + bytes((0x80 | hashed[6] & 0x0F, hashed[7]))

    def output(self, source_offset: int, index: int) -> bytes:
        """The id of the `index`-th event sent while the event at `source_offset` was handled."""
        if source_offset < _OFFSET_END and index < _INDEX_END:
            return self._head + _TAIL.pack(_VARIANT | source_offset << _INDEX_BITS | index)
        state = self._seed.copy()
        state.update(_SOURCE_PLACE.pack(source_offset, index))
        hashed = int.from_bytes(state.digest()[:8], "big") % _IS_HASHED
        return self._head + _TAIL.pack(_VARIANT | _IS_HASHED | hashed)


def place_id(topic: str, partition: int, offset: int) -> bytes:
    """The id of an event whose producer gave it none: its place is its identity, for every consumer."""
    return place_ids(topic, partition).output(offset, 0)


@lru_cache(maxsize=_PLACES_CACHED)
def place_ids(topic: str, partition: int) -> EventIds:
    """The ids of events of this partition whose producer gave them none; the index is 0."""
    return EventIds("", "", topic, partition)


def fresh_event_id() -> bytes:
    """A random event id, for events that no other event caused."""
    return uuid.uuid4().bytes


def id_text(event_id: bytes) -> str:
    """The usual text form of an event id; empty for none."""
    return str(uuid.UUID(bytes=event_id)) if event_id else ""


def encode_envelope(envelope: Envelope) -> tuple[tuple[str, bytes]]:
    """The envelope as one compact binary header."""
    correlation_id, causation_id = envelope.correlation_id, envelope.causation_id
    flags = (_HAS_CORRELATION if correlation_id else 0) | (_HAS_CAUSATION if causation_id else 0)
    fixed = _FIXED.pack(_VERSION, flags, envelope.event_id, envelope.time_ms)
    return ((HEADER, fixed + correlation_id + causation_id + envelope.stamp),)


def encode_output(event_id: bytes, time_ms: int, causes: bytes, stamp: bytes) -> tuple[tuple[str, bytes]]:
    """The compact header of an event that another one caused; `causes`: its correlation and causation id."""
    return ((HEADER, _FIXED.pack(_VERSION, _HAS_BOTH, event_id, time_ms) + causes + stamp),)


def encode_cloudevent(envelope: Envelope, *, source: str, type_name: str) -> Headers:
    """The envelope as CloudEvents 1.0 headers in Kafka's binary content mode."""
    time = datetime.fromtimestamp(envelope.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id_text(envelope.event_id).encode()),
        ("ce_source", source.encode()),
        ("ce_type", type_name.encode()),
        ("ce_time", time.replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
    ]
    if envelope.correlation_id:
        headers.append(("ce_correlationid", id_text(envelope.correlation_id).encode()))
    if envelope.causation_id:
        headers.append(("ce_causationid", id_text(envelope.causation_id).encode()))
    if envelope.stamp:
        headers.append(("ce_headracestamp", envelope.stamp.hex().encode()))
    return headers


def decode_envelope(headers: Headers) -> Envelope | None:
    """The envelope that the headers carry in either format; None from producers that send none.

    Raises: DecodeError when an envelope is there but malformed.
    """
    if not headers:
        return None
    for name, value in headers:
        if name == HEADER:
            return _decode_compact(value)
        if name == "ce_specversion":
            return _decode_cloudevent(dict(headers))
    return None


def _decode_compact(value: bytes) -> Envelope:
    try:
        version, flags, event_id, time_ms = _FIXED.unpack_from(value)
    except struct.error as error:
        raise DecodeError(f"the envelope header is cut short: {error}") from error
    if version != _VERSION:
        raise DecodeError(f"envelope version {version} is not known here")
    at = _FIXED.size
    if not flags & (_HAS_CORRELATION | _HAS_CAUSATION):
        return Envelope(event_id, time_ms, b"", b"", value[at:])
    ids = []
    for flag in (_HAS_CORRELATION, _HAS_CAUSATION):
        step = 16 if flags & flag else 0
        ids.append(value[at : at + step])
        if len(ids[-1]) != step:
            raise DecodeError("the envelope header is cut short")
        at += step
    return Envelope(event_id, time_ms, ids[0], ids[1], value[at:])


def _decode_cloudevent(headers: dict[str, bytes]) -> Envelope:
    try:
        moment = datetime.fromisoformat(headers["ce_time"].decode()) if "ce_time" in headers else None
        return Envelope(
            _id_bytes(headers["ce_id"].decode()),
            round(moment.timestamp() * 1000) if moment else 0,
            _id_bytes(headers.get("ce_correlationid", b"").decode()),
            _id_bytes(headers.get("ce_causationid", b"").decode()),
            bytes.fromhex(headers.get("ce_headracestamp", b"").decode()),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"the CloudEvents headers are malformed: {error!r}") from error


def _id_bytes(text: str) -> bytes:
    """CloudEvents ids are free text: a UUID keeps its bytes, anything else is hashed."""
    if not text:
        return b""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return hashlib.blake2b(text.encode(), digest_size=16).digest()
