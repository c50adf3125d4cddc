"""What happens in a simulated world, as events; and what their agents make of them, told without headrace.

`Shop` folds events over plain dicts. It is the other half of every agent in `app`: whoever changes one
changes both.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

import headrace


class Order(headrace.Event, frozen=True):
    """Somebody bought something; `how` says what becomes of the agent that books it."""

    id: str
    account: int
    cents: int
    how: str = "plain"
    tallied: int = 0
    """So many notes of the account its sender had seen."""
    rated: int = 0
    """Its sender had seen this version of the account's rate."""


class Note(headrace.Event, frozen=True):
    """An order was booked; sent by the app itself."""

    id: str
    account: int
    number: int


class Told(headrace.Event, frozen=True):
    """A note was collected; nobody reads it."""

    id: str
    account: int
    count: int


class Rated(headrace.Event, frozen=True):
    """A rate has a new version."""

    id: str
    kind: int
    version: int


RATES = 3
REFUSED_BY_LOG = "x" * 40
"""In the id of an output: the log does not take it."""
TOO_LARGE = "y" * 4_000
ALWAYS_REFUSED = frozenset({"raises", "too large", "refused"})
"""How an order is whose event must end as a dead letter."""
MAY_BE_REFUSED = frozenset({"flaky"})


def mixed(before: str, event_id: str) -> str:
    """A fold in which the order of events shows."""
    return blake2b(f"{before} {event_id}".encode(), digest_size=6).hexdigest()


class Output(NamedTuple):
    """What an agent sends."""

    topic: str
    key: int
    value: Any


Rows = dict[tuple[str, int], Any]
"""Rows by table and key."""
Found = Callable[[str], Sequence[bytes | None]]
"""What an agent found in the global table while it had the event in hand."""


class Shop:
    """The agents of the app as functions over rows; each gives the keys that it wrote and what it sent."""

    def __init__(self, *, has_rates: bool) -> None:
        self._has_rates = has_rates

    def book(self, rows: Rows, order: Order, found: Found) -> tuple[Rows, list[Output]]:
        """The first agent of orders."""
        account = order.account
        bag = dict(rows.get(("bags", account), {}))
        bag["n"] = bag.get("n", 0) + 1
        written: Rows = {("mixes", account): mixed(rows.get(("mixes", account), ""), order.id)}
        if order.cents % 2:
            written["bags", account] = bag
        balance = rows.get(("balances", account), 0) + order.cents
        written["balances", account] = None if order.how == "closes" else balance
        version = 0
        if self._has_rates:
            raw = found("book")
            version = msgspec.json.decode(raw[-1]) if raw and raw[-1] is not None else 0
            written["charged", account] = version
        sent = [Output("notes", account, Note(f"{order.id}n", account, version))] if order.cents % 3 else []
        return written, sent

    def count(self, rows: Rows, order: Order, found: Found) -> tuple[Rows, list[Output]]:
        """The second agent of orders: it also scans its table."""
        counted = rows.get(("counts", order.account), 0) + 1
        others = sum(
            value for (table, key), value in rows.items() if table == "counts" and key != order.account
        )
        return {("counts", order.account): counted, ("totals", order.account): counted + others}, []

    def collect(self, rows: Rows, note: Note, found: Found) -> tuple[Rows, list[Output]]:
        """The agent of notes, in the same group."""
        account, count = note.account, rows.get(("tallies", note.account), 0) + 1
        written: Rows = {
            ("tallies", account): count,
            ("mixes", account): mixed(rows.get(("mixes", account), ""), note.id),
        }
        return written, [Output("audit", account, Told(f"{note.id}t", account, count))]

    def archive(self, rows: Rows, note: Note, found: Found) -> tuple[Rows, list[Output]]:
        """The agent of notes in another group."""
        return {("archived", note.account): rows.get(("archived", note.account), 0) + 1}, []

    def rate(self, rows: Rows, rated: Rated, found: Found) -> tuple[Rows, list[Output]]:
        """The agent of the global table."""
        return {("rates", rated.kind): rated.version}, []
