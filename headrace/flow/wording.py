"""Events in words: places, times, values and stamps as people read them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from headrace.flow.fact import Fact

_VALUE_CHARS_MAX = 160
_OF_EVERY_CORRECTION = ("type", "corrects", "reason")


def corrected_facts(raw: bytes | None) -> bytes | None:
    """The facts of a correction, without what every correction has."""
    try:
        said = msgspec.json.decode(raw or b"", type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return raw
    return msgspec.json.encode(
        {name: value for name, value in said.items() if name not in _OF_EVERY_CORRECTION}
    )


def place_text(fact: Fact) -> str:
    """Topic, partition and offset."""
    return f"{fact.place.topic} {fact.place.partition}:{fact.offset}"


def seen_text(seen: Mapping[str, int]) -> str:
    """Next offsets on one line."""
    return ", ".join(f"{name} up to {offset}" for name, offset in seen.items())


def at_text(at_ms: int) -> str:
    """A time in UTC; the bare number for one that no calendar has."""
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shortened(raw: bytes | None) -> str:
    """A value on one line of bounded length."""
    if raw is None:
        return "(tombstone)"
    text = text_of(raw)
    text = f"hex {raw[:_VALUE_CHARS_MAX].hex()}" if text is None else " ".join(text.split())
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[:_VALUE_CHARS_MAX]}... ({len(raw)} bytes)"


def plain(text: str) -> str:
    """One line that moves no cursor and colours nothing, whatever an event's sender wrote."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def text_of(raw: bytes | None) -> str | None:
    """The text behind the bytes; None where there is none."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None
