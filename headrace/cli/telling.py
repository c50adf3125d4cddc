"""Events and their corrections as the command line tells them, to people and to scripts."""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace.flow.fact import Fact, Naming

_VALUE_CHARS_MAX = 160
_OF_EVERY_CORRECTION = ("type", "corrects", "reason")


def fact_as_json(fact: Fact, naming: Naming) -> dict[str, Any]:
    """One event with all that is known of it; what is not is left out."""
    said: dict[str, Any] = {
        "topic": fact.place.topic,
        "partition": fact.place.partition,
        "offset": fact.offset,
        "type": fact.kind,
        "event_id": fact.event_id,
        "at": at_text(fact.at_ms),
        "key": _text(fact.raw.key),
        "causation_id": fact.causation_id,
        "correlation_id": fact.correlation_id,
        "stamp": naming.seen(fact.seen),
        "stamp_is_cut": fact.seen.is_cut,
        "corrects": fact.corrects,
        "reason": fact.reason,
        "problem": fact.problem,
        "corrected_by": [fact_as_json(each, naming) for each in fact.corrected_by],
    }
    said = {name: each for name, each in said.items() if each or type(each) is int}
    return said | {"value": value_as_json(fact.raw.value)}


def value_as_json(raw: bytes | None) -> Any:
    """A value as it is where it is JSON; else as text, or in base64 under that name."""
    if raw is None:
        return None
    try:
        msgspec.json.decode(raw)
        return msgspec.Raw(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        text = _text(raw)
        return text if text is not None else {"base64": base64.b64encode(raw).decode()}


def fact_lines(fact: Fact, naming: Naming) -> Iterator[str]:
    """The same for people: a line with place, type and time, and more below it."""
    mark = "  CORRECTED" if fact.corrected_by else ""
    yield f"{place_text(fact)}  {fact.kind or '(no type)'}  {at_text(fact.at_ms)}{mark}"
    yield told("id", fact.event_id)
    if fact.causation_id:
        yield told("caused by", fact.causation_id)
    if fact.corrects:
        yield told("corrects", f"{fact.corrects}: {fact.reason}")
    if fact.seen or fact.seen.is_cut:
        yield told(
            "had seen", f"{seen_text(naming.seen(fact.seen))}{' and more' if fact.seen.is_cut else ''}"
        )
    yield told("then" if fact.corrected_by else "value", shortened(fact.raw.value))
    for each in fact.corrected_by:
        yield told("now", shortened(corrected_facts(each.raw.value)))
        yield told("", f"by {each.event_id} ({place_text(each)}): {each.reason}")
    if fact.problem:
        yield told("unreadable", fact.problem)


def told(label: str, what: str) -> str:
    """One line below an event."""
    return f"    {label:<12}{what}"


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
    """A time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shortened(raw: bytes | None) -> str:
    """A value on one line of bounded length."""
    if raw is None:
        return "(tombstone)"
    text = _text(raw)
    text = f"hex {raw.hex()}" if text is None else " ".join(text.split())
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[:_VALUE_CHARS_MAX]}... ({len(raw)} bytes)"


def _text(raw: bytes | None) -> str | None:
    """The text behind the bytes; None where there is none, or no printable one."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None
