"""The service whose table is compared with the old database's by `bench.diff`."""

import msgspec

import headrace
from headrace import bridge

PARTITIONS = 4


class Bought(headrace.Event, frozen=True):
    """A household bought something."""

    household_id: int
    cents: int


class Balance(msgspec.Struct, frozen=True):
    """What a household has spent."""

    cents: int = 0
    visits: int = 0


app = headrace.App("drifting")
purchases: headrace.Topic[int, Bought] = app.topic(
    "drifting.purchases", key_type=int, value_type=Bought, partitions=PARTITIONS
)
balances = app.Table("balances", key_type=int, value_type=Balance, default=Balance)
old_balances = bridge.SqlTable("balances", key="household_id", sums=("cents", "visits"))
applier = bridge.Applier(app, group="old")


@app.agent(purchases)
async def earn(events: headrace.Stream[Bought]) -> None:
    """Add purchases up in the service's own table."""
    async for event in events:
        before = balances[event.household_id]
        balances[event.household_id] = Balance(before.cents + event.cents, before.visits + 1)


@applier.agent(purchases)
async def keep(events: headrace.Stream[Bought]) -> None:
    """Add them up in the old database."""
    async for event in events:
        old_balances.add(household_id=event.household_id, cents=event.cents, visits=1)


bridge.Compared(app, balances, sql_table="balances", key="household_id", applier=applier.group)
