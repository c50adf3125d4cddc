"""Everything on the whiteboard that changes while one looks at it, as text by slot.

A slot is `name` (the text of an element), or name, tab and attribute. The page is drawn with them,
and the feed sends the ones that changed.
"""

import math
from collections.abc import Iterator

from headrace.http.whiteboard.board import Board, HeldCard, PartitionCard, TableCard
from headrace.http.whiteboard.rates import Rates

UNKNOWN = "\u2013"
"""Stands where there is no figure yet."""
PACES = 6
"""How many speeds an arrow has; 0 stands still."""
LEVELS = 5
"""How many heights the bar of a partition has; 0 is empty."""


def readings(board: Board, rates: Rates) -> dict[str, str]:
    """Text and attributes by slot; slots begin with the app's name, so that boards can share a page."""
    app = board.app
    return {f"{app}/{slot}": text for slot, text in _slots(board, rates)}


def _slots(board: Board, rates: Rates) -> Iterator[tuple[str, str]]:
    yield from _summary(board, rates)
    for topic in board.topics:
        read, sent = rates.read(topic.name), rates.sent(topic.name)
        yield f"topic/{topic.name}/rate", per_second(read if topic.groups else sent)
        yield f"topic/{topic.name}/lag", f"lag {number(topic.lag)}" if topic.groups else ""
        yield f"topic/{topic.name}/read\tdata-pace", pace(read)
        yield f"topic/{topic.name}/sent\tdata-pace", pace(sent)
    for agent in board.agents:
        rate = rates.agent(agent.name)
        yield f"agent/{agent.name}/rate", per_second(rate)
        yield f"agent/{agent.name}\tdata-pace", pace(rate)
        yield f"agent/{agent.name}/trouble", _trouble(agent.retries, agent.dead_letters)
        yield f"agent/{agent.name}/dead\tdata-count", _some(agent.dead_letters)
    for table in board.tables:
        yield f"table/{table.name}/rows", _rows(table)
    for shadow in board.shadows:
        slot = f"shadow/{shadow.table}"
        yield f"{slot}/compared", number(shadow.compared)
        yield f"{slot}/differing", number(shadow.differing)
        yield f"{slot}/differing\tdata-count", _some(shadow.differing)
        yield f"{slot}/waiting", number(shadow.waiting)
        yield f"{slot}/left", number(shadow.dropped + shadow.undecided + shadow.failed)
    for card in board.partitions:
        slot = f"task/{card.group}/{card.number}"
        yield f"{slot}\tdata-state", card.state
        yield f"{slot}/state", _state(card)
        yield f"{slot}/lag", number(card.lag) if card.offsets else UNKNOWN
        yield f"{slot}\tdata-level", level(card)
        yield f"{slot}/held", "; ".join(map(held_text, card.held))
        for topic in board.topics:
            if card.group in topic.groups:
                yield f"{slot}/{topic.name}/offset", _offset(card.offsets.get(topic.name))
                yield f"{slot}/{topic.name}\tdata-level", _level_of(card, card.lags.get(topic.name, 0))


def _summary(board: Board, rates: Rates) -> Iterator[tuple[str, str]]:
    owned = [card for card in board.partitions if card.state != "elsewhere"]
    serving = sum(card.state == "serving" for card in owned)
    restoring = [card for card in owned if card.state == "restoring"]
    stopped = sum(card.state == "stopped" for card in owned)
    state = "stopped" if stopped else "restoring" if restoring else board.state
    yield "state", state
    yield "state\tdata-state", state
    rate = rates.all_events
    yield "rate", UNKNOWN if rate is None else number(round(rate))
    yield "lag", number(board.lag)
    yield "partitions", f"{serving} of {len(board.partitions)}"
    yield "dead", number(board.dead_letters)
    yield "dead/bin\tdata-count", _some(board.dead_letters)
    yield "dead\tdata-count", _some(board.dead_letters)
    yield "dead/text", f"{number(board.dead_letters)} since start"
    done, all_of_it = sum(c.restored for c in restoring), sum(c.to_restore for c in restoring)
    share = done / all_of_it if all_of_it else 0.0
    yield "restore\tdata-shown", "yes" if restoring else "no"
    yield "restore-bar\tvalue", f"{share:.3f}"
    yield (
        "restore-text",
        f"Restoring {len(restoring)} of {len(owned)} partitions: {share:.0%} "
        f"({done:,} of {all_of_it:,} changelog records)"
        if restoring
        else "",
    )


def _state(card: PartitionCard) -> str:
    if card.state == "restoring":
        share = card.restored / card.to_restore if card.to_restore else 0.0
        return f"restoring {share:.0%}"
    if card.state == "stopped" and card.error:
        return f"stopped: {card.error}"
    return {"elsewhere": "another worker"}.get(card.state, card.state)


def held_text(held: HeldCard) -> str:
    """What waits, since when, and for what."""
    wanted = " and ".join(f"{place} up to {offset:,}" for place, offset in held.waits_for.items())
    return f"{held.topic} {held.offset:,} has waited {duration(held.for_s)} for {wanted}"


def duration(seconds: float) -> str:
    """A time as people say it, in its two largest units at most."""
    whole = int(seconds)
    for unit_s, unit, part_s, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit} {rest} {part}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def _rows(table: TableCard) -> str:
    if table.rows is None:
        return UNKNOWN
    return number(table.rows) if table.is_counted else f"{number(table.rows)}+"


def _some(count: int) -> str:
    return "some" if count else "none"


def _trouble(retries: int, dead_letters: int) -> str:
    parts = [f"{number(dead_letters)} dead"] if dead_letters else []
    parts += [f"{number(retries)} retries"] if retries else []
    return ", ".join(parts)


def _offset(offset: int | None) -> str:
    return UNKNOWN if offset is None else f"{offset:,}"


def level(card: PartitionCard) -> str:
    """The height of a partition's bar, by its lag over all inputs."""
    return _level_of(card, card.lag)


def _level_of(card: PartitionCard, lag: int) -> str:
    if card.state == "restoring":
        share = card.restored / card.to_restore if card.to_restore else 0.0
        return str(round(share * LEVELS))
    return str(min(LEVELS, math.ceil(math.log10(lag + 1)))) if lag > 0 else "0"


def pace(rate: float | None) -> str:
    """The speed of an arrow: a step for each factor of ten, so that it seldom changes."""
    if not rate:
        return "0"
    return str(min(PACES - 1, max(1, 1 + math.floor(math.log10(max(rate, 1.0))))))


def per_second(rate: float | None) -> str:
    """A rate as text; nothing is known before the second sample."""
    if rate is None:
        return UNKNOWN
    return f"{rate:.1f}/s" if 0 < rate < 10 else f"{number(round(rate))}/s"


def number(value: int) -> str:
    """A count in at most six characters or so: 9,412, 84.1k, 1.27M."""
    for bound, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (100_000, "k")):
        if value >= bound:
            scaled = value / (1_000 if unit == "k" else bound)
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.2f}{unit}"
    return f"{value:,}"
