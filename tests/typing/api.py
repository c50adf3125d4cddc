"""What a user's type checker infers; checked by mypy, never run."""

from collections.abc import Sequence
from typing import assert_type

import msgspec

import headrace


class BasketPurchased(headrace.Event, frozen=True):
    """A household has bought a basket."""

    household_id: int
    cents: int


class BasketCorrected(headrace.Correction[BasketPurchased], frozen=True):
    """A basket was other than it was said to be."""

    cents: int


CheckoutEvent = BasketPurchased | BasketCorrected


class Balance(msgspec.Struct, frozen=True):
    """What a household has spent."""

    cents: int = 0


app = headrace.App("loyalty", http="127.0.0.1:0")
baskets: headrace.Topic[int, CheckoutEvent] = app.topic(
    "checkout.events", key_type=int, value_type=CheckoutEvent, partitions=8
)
balances: headrace.Table[int, Balance] = app.Table(
    "balances", key_type=int, value_type=Balance, default=Balance
)

rates: headrace.GlobalTable[str, float] = app.GlobalTable("rates", key_type=str, value_type=float)


@app.agent(baskets)
async def earn(events: headrace.Stream[CheckoutEvent]) -> None:
    """Add up."""
    async for event in events:
        assert_type(event, BasketPurchased | BasketCorrected)
        if isinstance(event, BasketPurchased):
            balance = balances[event.household_id]
            assert_type(balance, Balance)
            balances[event.household_id] = Balance(balance.cents + event.cents)
        else:
            assert_type(event.corrects, str)
    async for delivery in events.events():
        assert_type(delivery.value, BasketPurchased | BasketCorrected)
        assert_type(delivery.headers, dict[str, bytes])
        assert_type(delivery.offset, int)
        assert_type(delivery.timestamp, float)


assert_type(earn, headrace.Agent)


@app.timer(1.0)
async def beat() -> int:
    """Send one event a second."""
    sent = await baskets.send(key=1, value=BasketPurchased(1, 5))
    assert_type(sent, headrace.Sent)
    assert_type(sent.position, headrace.Position)
    return 1


async def use() -> None:
    """What routes and timers do."""
    assert_type(await beat(), int)
    assert_type(balances.get(1), Balance | None)
    assert_type(balances.get(1, "none"), Balance | str)
    assert_type(balances.pop(1), Balance)
    assert_type(balances.setdefault(1, Balance()), Balance)
    assert_type(list(balances.items()), list[tuple[int, Balance]])
    assert_type(1 in balances, bool)
    assert_type(rates["EUR"], float)
    assert_type(rates.get("EUR"), float | None)
    async with app.sending() as scope:
        await baskets.send(key=1, value=None)
    assert_type(scope.position, headrace.Position)
    assert_type(await app.reached(balances, 1), Sequence[str])


async def ask() -> None:
    """What clients do."""
    async with headrace.Client("http://one", "http://two", timeout=1.0) as client:
        assert_type((await client.get("/balances/1")).status_code, int)
        assert_type(client.position, str | None)
        assert_type(client.session, headrace.Session)
    with headrace.SyncClient("http://one", position="token") as blocking:
        assert_type(blocking.post("/baskets", json={}).status_code, int)


async def misuse() -> None:
    """What a type checker refuses; each needless ignore is an error of its own."""
    balances["1"] = Balance()  # type: ignore[index]
    balances[1] = 5  # type: ignore[assignment]
    rates.get(1)  # type: ignore[call-overload]
    await baskets.send(key="1", value=BasketPurchased(1, 5))  # type: ignore[arg-type]
    await baskets.send(key=1, value=Balance())  # type: ignore[arg-type]
