"""The service whose rows are read over one hop: what lies on each shelf of a shop."""

import msgspec

import headrace


class Stocked(headrace.Event, frozen=True):
    """Something was put on a shelf."""

    shelf: int
    sku: str
    quantity: int


class Shelf(msgspec.Struct, frozen=True):
    """What lies on a shelf."""

    shelf: int = 0
    sku: str = ""
    quantity: int = 0
    deliveries: int = 0


app = headrace.App("bench-shelves")
stocked: headrace.Topic[int, Stocked] = app.topic(
    "bench.stocked", key_type=int, value_type=Stocked, partitions=8
)
shelves = app.Table("shelves", key_type=int, value_type=Shelf, default=Shelf)
app.serve(shelves, "/shelves")


@app.agent(stocked)
async def stock(events: headrace.Stream[Stocked]) -> None:
    """Keep the shelves."""
    async for event in events:
        before = shelves[event.shelf]
        shelves[event.shelf] = Shelf(
            event.shelf, event.sku, before.quantity + event.quantity, before.deliveries + 1
        )
