"""What a function names is found in its code, and told apart: read, written, sent to."""

from typing import Any

import headrace
from app.checkout import app as checkout
from app.loyalty import app as loyalty
from headrace.flow.references import references

app = headrace.App("references")
orders: headrace.Topic[int, int] = app.topic("orders", key_type=int, value_type=int)
shipped: headrace.Topic[int, int] = app.topic("shipped", key_type=int, value_type=int)
totals: headrace.Table[int, int] = app.Table("totals", key_type=int, value_type=int)
limits: headrace.Table[int, int] = app.Table("limits", key_type=int, value_type=int)
seen: headrace.Table[int, int] = app.Table("seen", key_type=int, value_type=int)


def limit_of(key: int) -> int:
    return limits.get(key, 0)


class Shipping:
    """Sends through an attribute."""

    def __init__(self, topic: headrace.Topic[int, int]) -> None:
        self.topic = topic

    async def ship(self, value: int) -> None:
        await self.topic.send(value=value)


shipping = Shipping(shipped)


async def add(events: headrace.Stream[int]) -> None:
    async for event in events.events():
        if event.value < limit_of(event.key):
            totals[event.key] = event.value
            seen.setdefault(event.key, 1)
        else:
            await shipping.ship(event.value)


async def forget(events: headrace.Stream[int]) -> None:
    async for event in events:
        del seen[event]
        totals[event] += limits[event]


async def idle(events: headrace.Stream[int]) -> None:
    async for _ in events:
        continue


def test_tables_are_read_or_written_and_topics_are_found_through_objects() -> None:
    found = references(add)
    assert (set(found.reads), set(found.writes)) == ({"limits"}, {"totals", "seen"})
    assert found.topics == ("shipped",)


def test_deletes_and_sums_are_writes() -> None:
    assert set(references(forget).writes) == {"seen", "totals"}
    assert references(forget).reads == ("limits",)


def test_who_names_nothing_has_nothing() -> None:
    assert references(idle) == ((), (), ())


def test_a_closure_is_looked_into() -> None:
    table = totals

    async def inner(events: Any) -> None:
        async for event in events:
            table[event] = 1

    assert references(inner).writes == ("totals",)


def test_the_reference_system_is_drawn_as_it_is() -> None:
    agents = {agent.name: references(agent.function) for agent in loyalty_agents()}
    assert set(agents["earn_points"].writes) == {"balances", "department_spend", "coupon_days"}
    assert agents["judge_redemptions"].reads == ("coupon_days",)
    assert set(agents["judge_redemptions"].writes) == {"balances", "redemptions"}
    assert agents["judge_redemptions"].topics == ("loyalty.events",)
    route = checkout.declarations.routes[0]
    assert references(route.endpoint).topics == ("checkout.events",)


def loyalty_agents() -> list[Any]:
    import agents.loyalty  # noqa: F401  (declares them)

    return list(loyalty.declarations.agents)
