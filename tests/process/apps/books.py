"""Books the orders of another service, and is read."""

import msgspec

import headrace
from tests.process.apps.orders import Ordered


class Book(msgspec.Struct, frozen=True):
    """What is known of a customer's orders."""

    count: int = 0
    total: int = 0
    """Of their numbers."""


app = headrace.App("books")
orders: headrace.Topic[int, Ordered] = app.topic(
    "orders.events", key_type=int, value_type=Ordered, partitions=4
)
books: headrace.Table[int, Book] = app.Table("books", key_type=int, value_type=Book, default=Book)
app.serve(books, "/books")


@app.agent(orders)
async def book(events: headrace.Stream[Ordered]) -> None:
    """Count and add up."""
    async for event in events:
        before = books[event.customer]
        books[event.customer] = Book(before.count + 1, before.total + event.number)
