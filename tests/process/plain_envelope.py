"""Envelopes and ids of events, read once more as plain as can be."""

import hashlib
import struct
import uuid

from headrace.events.envelope import Headers
from headrace.events.position import TopicPartition

_ENVELOPE_BYTES = 26


class Refused(Exception):
    """No service may apply this record."""


def event_id(headers: Headers, place: TopicPartition, offset: int) -> str:
    """What the event is called by a correction of it; one without a name is called by its place."""
    for name, content in headers:
        if name == "hr":
            return _compact_id(content)
        if name == "ce_specversion":
            return _cloud_id(dict(headers).get("ce_id"))
    named = hashlib.blake2b("\0".join(("", "", place.topic, str(place.partition))).encode(), digest_size=16)
    where = named.digest()[:8]
    # A UUID of version 8: where, and which one there; the last 16 bits are of events that an agent sent.
    marked = where[:6] + bytes((0x80 | where[6] & 0x0F, where[7]))
    return str(uuid.UUID(bytes=marked + struct.pack(">Q", 1 << 63 | offset << 16)))


def check_envelope(headers: Headers) -> None:
    """What is refused wherever it is read: an envelope that is cut short, and a stamp that is none."""
    if headers and headers[0][0] == "hr" and len(headers[0][1]) > 1:
        content = headers[0][1]
        stamp = content[_ENVELOPE_BYTES + 16 * _ids_in(content) :]
        if len(content) < _ENVELOPE_BYTES + 16 * _ids_in(content):
            raise Refused("the envelope")
        if stamp and (stamp[0] not in (0x10, 0x11) or len(stamp) % 22 != 1 or len(stamp) > 22 * 128 + 1):
            raise Refused("the stamp")
    else:
        event_id(headers, TopicPartition("", 0), 0)


def _ids_in(content: bytes) -> int:
    return (content[1] & 1) + (content[1] >> 1 & 1)


def _cloud_id(content: bytes | None) -> str:
    """Any text is an id; one that is no UUID is hashed into one."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise Refused("the id of a CloudEvent")
    return str(uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest()))


def _compact_id(content: bytes) -> str:
    if len(content) < _ENVELOPE_BYTES or content[0] != 1:
        raise Refused("the envelope")
    if len(content) < _ENVELOPE_BYTES + 16 * _ids_in(content):
        raise Refused("the envelope")
    struct.unpack_from(">q", content, 18)
    return str(uuid.UUID(bytes=content[2:18]))
