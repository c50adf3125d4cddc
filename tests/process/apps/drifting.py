"""A service whose old database lives on; its own table has a flaw, which corrections mend."""

from typing import Any

import msgspec

import headrace
from headrace import bridge

PARTITIONS = 4
UNLUCKY = 13
"""A purchase of so many cents is forgotten by the service, and not by the database."""


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    who: int
    cents: int


class Adjusted(headrace.Event, frozen=True):
    """The service had it wrong: so much is to be added."""

    who: int
    cents: int
    visits: int
    is_void: bool = False


class Balance(msgspec.Struct, frozen=True):
    """What somebody has spent."""

    cents: int = 0
    visits: int = 0


app = headrace.App("drifting")
sales: headrace.Topic[int, Bought | Adjusted] = app.topic(
    "sales", key_type=int, value_type=Bought | Adjusted, partitions=PARTITIONS
)
balances = app.Table("balances", key_type=int, value_type=Balance, default=Balance)
old_balances = bridge.SqlTable("balances", key="who", sums=("cents", "visits"))
applier = bridge.Applier(app, group="old")
app.serve(balances, "/balances")


@app.agent(sales)
async def earn(events: headrace.Stream[Bought | Adjusted]) -> None:
    """Add purchases up."""
    async for event in events:
        before = balances[event.who]
        match event:
            case Bought(cents=cents) if cents != UNLUCKY:
                balances[event.who] = Balance(before.cents + cents, before.visits + 1)
            case Adjusted(is_void=True):
                balances.discard(event.who)
            case Adjusted(cents=cents, visits=visits):
                balances[event.who] = Balance(before.cents + cents, before.visits + visits)


@applier.agent(sales)
async def keep(events: headrace.Stream[Bought | Adjusted]) -> None:
    """Keep the old balances up to date."""
    async for event in events:
        if isinstance(event, Bought):
            old_balances.add(who=event.who, cents=event.cents, visits=1)


def adjusted(found: bridge.Difference) -> Any:
    """What brings the service to what the database says, whatever is bought meanwhile."""
    if found.columns is None:
        return Adjusted(found.key, 0, 0, is_void=True)
    had = found.value or Balance()
    return Adjusted(found.key, found.columns["cents"] - had.cents, found.columns["visits"] - had.visits)


bridge.Compared(
    app, balances, sql_table="balances", key="who", applier=applier.group, correction=adjusted, to=sales
)
bridge.Shadow(
    app,
    balances,
    query="SELECT cents, visits FROM balances WHERE who = %s",
    row=lambda row: Balance(*row),
    applier=applier.group,
    sample=1.0,
)
