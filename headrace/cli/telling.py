"""Events and their corrections as the command line tells them, to people and to scripts."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.flow.fact import Fact, Naming
from headrace.flow.wording import at_text, corrected_facts, place_text, seen_text, shortened, text_of


def fact_as_json(fact: Fact, naming: Naming) -> dict[str, Any]:
    """One event with all that is known of it; what is not is left out."""
    said: dict[str, Any] = {
        "topic": fact.place.topic,
        "partition": fact.place.partition,
        "offset": fact.offset,
        "type": fact.kind,
        "event_id": fact.event_id,
        "at": at_text(fact.at_ms),
        "key": text_of(fact.raw.key),
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
        text = text_of(raw)
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
