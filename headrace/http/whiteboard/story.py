"""What made a row, and what happened to a key, as parts of the page: server-made, without any script."""

from collections.abc import Iterable, Iterator
from html import escape

import msgspec

from headrace.flow.fact import Fact, Naming
from headrace.flow.keyhistory import KeyHistory
from headrace.flow.origin import Cause, Link, Origin, Refusal
from headrace.flow.wording import at_text, corrected_facts, place_text, shortened, text_of

_VALUE_CHARS_MAX = 20_000
_CORRECTIONS_MAX = 10


def origin_html(table: str, key: str, origin: Origin, naming: Naming) -> bytes:
    """The events that made a row, the newest ones."""
    steps = "".join(_step(link.fact, naming, _of_link(link)) for link in origin.links)
    refused = "".join(_step(each.fact, naming, _of_refusal(each), "refused") for each in origin.refusals)
    inside = (
        f"<h2>Why <q>{escape(key)}</q> of {escape(table)} is so</h2>{_verdict(origin)}"
        f"{_left_out(origin.left_out, f'why {table} {key} --limit 1000')}"
        f'<ol class="story" start="{origin.left_out + 1}">{steps}</ol>'
    )
    if refused:
        inside += f'<h3>Not in the row: refused</h3><ol class="story">{refused}</ol>'
    return inside.encode()


def history_html(key: str, history: KeyHistory, naming: Naming) -> bytes:
    """The events of a key and their corrections, the newest ones."""
    where = ", ".join(f"{place.topic}/{place.partition}" for place in history.places)
    steps = "".join(_step(fact, naming, ()) for fact in history.facts)
    said = f"In log order, from {escape(where)}." if history.facts else f"There is none in {escape(where)}."
    if not history.is_whole:
        said += " Not all of it was read: the time was up."
    inside = (
        f'<h2>Events of <q>{escape(key)}</q></h2><p class="hint">{said}</p>'
        f"{_left_out(history.left_out, f'history {key} --limit 1000')}"
        f'<ol class="story" start="{history.left_out + 1}">{steps}</ol>'
    )
    return inside.encode()


def _verdict(origin: Origin) -> str:
    reached = ", ".join(f"{escape(topic)} {offset:,}" for topic, offset in origin.position.items())
    stands = f"The row stands at {reached}."
    if not origin.is_whole:
        return (
            f'<p class="hint doubt">{stands} Not all events before that were read: the time was up. '
            "The command line has no such bound.</p>"
        )
    if origin.is_borne_out:
        made = "These events make it." if origin.links else "No event has written it."
        return f'<p class="hint">{stands} {made}</p>'
    told = "no row" if origin.told is None else f"<code>{escape(shortened(origin.told))}</code>"
    reasons = [
        f"{escape(place.topic)} begins at offset {offset:,}: what was before is deleted."
        for place, offset in origin.begins_at.items()
    ]
    if origin.failed:
        reasons.append(f"{origin.failed:,} events are refused by the agents now, and were not then.")
    reasons.append("The agents may have changed since, or events of several inputs came in another order.")
    found = f"<b>These events make another one: {told}.</b>"
    return f'<p class="hint doubt">{stands} {found} {" ".join(reasons)}</p>'


def _left_out(count: int, command: str) -> str:
    if not count:
        return ""
    return f'<p class="hint">{count:,} older events are left out: <code>{escape(command)}</code></p>'


def _step(fact: Fact, naming: Naming, more: Iterable[tuple[str, str]], mark: str = "") -> str:
    """One event; `more` are rows of its list, the second part as HTML."""
    marked = mark or ("corrected" if fact.corrected_by else "")
    badge = f'<span class="badge" data-mark="{marked}">{marked}</span>' if marked else ""
    rows = [*_facts(fact, naming), *more]
    cells = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in rows)
    return (
        f'<li><div class="fact"><b>{escape(fact.kind or "(no type)")}</b>'
        f"<span>{escape(place_text(fact))}</span><span>{at_text(fact.at_ms)}</span>{badge}</div>"
        f"<dl>{cells}</dl></li>"
    )


def _facts(fact: Fact, naming: Naming) -> Iterator[tuple[str, str]]:
    yield "Id", f"<code>{fact.event_id}</code>"
    if fact.causation_id:
        yield "Caused by", f"<code>{fact.causation_id}</code>"
    if fact.corrects:
        yield "Corrects", f"<code>{fact.corrects}</code> {escape(fact.reason)}"
    if fact.seen or fact.seen.is_cut:
        seen = ", ".join(f"{escape(name)} {offset:,}" for name, offset in naming.seen(fact.seen).items())
        yield "Had seen", f"{seen}{' and more' if fact.seen.is_cut else ''}"
    yield ("Then" if fact.corrected_by else "Value"), _value(fact.raw.value)
    for each in fact.corrected_by[-_CORRECTIONS_MAX:]:
        yield "Now", _value(corrected_facts(each.raw.value))
        yield "", f"by <code>{each.event_id}</code> ({escape(place_text(each))}): {escape(each.reason)}"
    if fact.problem:
        yield "Unreadable", escape(fact.problem)


def _of_link(link: Link) -> Iterator[tuple[str, str]]:
    for cause in link.causes:
        yield "Waited for", _cause(cause)
    if link.is_replayed:
        yield "Replayed", "It was a dead letter."
    row = "deleted" if link.row is None else _value(link.row)
    yield "Row then", row
    yield "", f"by {escape(link.agent)}"


def _of_refusal(refusal: Refusal) -> Iterator[tuple[str, str]]:
    yield "Refused by", escape(refusal.agent or "every agent of its topic")
    yield "Because", f"{escape(refusal.error)}: {escape(refusal.reason)}"


def _cause(cause: Cause) -> str:
    where = f"{escape(cause.place.topic)}/{cause.place.partition} up to {cause.offset_next:,}"
    if cause.fact is None:
        return f"{where}: deleted since"
    fact = cause.fact
    return f"{where}: {escape(fact.kind)} at {escape(place_text(fact))}, <code>{fact.event_id}</code>"


def _value(raw: bytes | None) -> str:
    """A value on one line; a longer one can be opened."""
    line = shortened(raw)
    if raw is None or text_of(raw) == line:
        return f"<code>{escape(line)}</code>"
    try:
        whole = msgspec.json.format(raw, indent=2)
    except msgspec.MsgspecError:
        whole = raw
    text = (text_of(whole) or whole.hex())[:_VALUE_CHARS_MAX]
    return f"<details><summary><code>{escape(line)}</code></summary><pre>{escape(text)}</pre></details>"
