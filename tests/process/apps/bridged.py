"""A service that lives beside the database it has left: what is paid comes from an outbox, and goes back."""

import headrace
from headrace import bridge

app = headrace.App("bridged")


class Paid(headrace.Event, frozen=True):
    """A household paid."""

    household: int
    cents: int


paid: headrace.Topic[int, Paid] = app.topic("bridged.paid", key_type=int, value_type=Paid, partitions=4)
outbox = bridge.Outbox(paid)
relay = bridge.Relay(app, [outbox])
applier = bridge.Applier(app, group="database")
sums = bridge.SqlTable("sums", key="household", sums=("cents", "payments"))
totals: headrace.Table[int, int] = app.Table("totals", key_type=int, value_type=int, default=int)
app.serve(totals, "/totals")


@applier.agent(paid)
async def keep_sums(events: headrace.Stream[Paid]) -> None:
    """Keep the database's own sums up to date."""
    async for event in events:
        sums.add(household=event.household, cents=event.cents, payments=1)


@app.agent(paid)
async def keep_totals(events: headrace.Stream[Paid]) -> None:
    """Keep the private table."""
    async for event in events:
        totals[event.household] += event.cents
