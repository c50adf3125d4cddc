"""What an agent writes is a fold of its events, in order, each once."""

from typing import Any

import headrace
from headrace import TopicPartition
from headrace.events.envelope import id_text, place_id
from tests.flow.shop import Bought, by_key, declare_shop, fold, open_shop, purchases
from tests.service import quick, running


async def test_a_table_is_the_fold_of_its_events() -> None:
    shop, events = open_shop(), purchases(500)
    async with running(shop.app) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        assert service.table("balances")[3] == fold(events)[3]


async def test_the_position_advances_over_events_that_wrote_nothing() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def ignore(events: headrace.Stream[Bought]) -> None:
        async for _ in events:
            pass

    async with running(shop.app) as service:
        await service.send_all(shop.buys, by_key(purchases(20)))
        await service.until_applied()
        assert service.position()[TopicPartition("buys", 0)] >= 20
        assert service.table("balances").rows() == {}


async def test_two_agents_on_one_topic_each_get_every_event_in_order() -> None:
    shop = declare_shop(partitions=1)
    first: list[int] = []
    second: list[int] = []

    @shop.app.agent(shop.buys)
    async def one(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            first.append(event.cents)

    @shop.app.agent(shop.buys)
    async def two(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            second.append(event.cents)

    async with running(shop.app, settings=quick(unit_records_max=7)) as service:
        await service.send_all(shop.buys, by_key(purchases(100)))
        await service.until_applied()
    assert first == second == list(range(100))


async def test_several_inputs_of_a_group_are_folded_into_one_table() -> None:
    shop = open_shop(partitions=2)
    returns = shop.app.topic("returns", key_type=int, value_type=Bought, partitions=2)

    @shop.app.agent(returns)
    async def give_back(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    bought, returned = purchases(50), [Bought(who, -10) for who in range(7)]
    async with running(shop.app) as service:
        await service.send_all(shop.buys, by_key(bought))
        await service.send_all(returns, by_key(returned))
        await service.until_applied()
        assert service.table("balances").rows() == fold(bought + returned)


async def test_groups_of_one_app_have_partitions_tables_and_positions_of_their_own() -> None:
    shop = open_shop(partitions=2)
    visits = shop.app.Table("visits", key_type=str, default=int, group="doors")
    doors: headrace.Topic[str, bytes] = shop.app.topic("doors", key_type=str, partitions=3)

    @shop.app.agent(doors, group="doors")
    async def count(events: headrace.Stream[bytes]) -> None:
        async for delivery in events.events():
            visits[delivery.key] += 1

    async with running(shop.app) as service:
        await service.send_all(doors, [("north", b""), ("south", b""), ("north", b"")])
        await service.send_all(shop.buys, by_key(purchases(10)))
        await service.until_applied()
        assert service.table("visits").rows() == {"north": 2, "south": 1}
        assert service.table("balances").rows() == fold(purchases(10))
        owned = [(view.group, view.partition) for view in service.runtime.views()]
        assert owned == [("doors", 0), ("doors", 1), ("doors", 2), ("main", 0), ("main", 1)]


async def test_a_group_without_tables_keeps_its_position() -> None:
    app = headrace.App("relay")
    source: headrace.Topic[int, Bought] = app.topic("in", key_type=int, value_type=Bought, partitions=1)
    target: headrace.Topic[int, Bought] = app.topic("out", key_type=int, value_type=Bought, partitions=1)

    @app.agent(source)
    async def relay(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            await target.send(value=event)

    async with running(app) as service:
        await service.send_all(source, by_key(purchases(5)))
        await service.until_applied()
        log = service.log
    async with running(app, log=log) as service:
        await service.send_all(source, by_key(purchases(5)))
        await service.until_applied()
        relayed = [delivery.value.cents for delivery in await service.outputs(target)]
    assert relayed == [0, 1, 2, 3, 4] * 2


async def test_a_tombstone_arrives_as_none() -> None:
    shop, seen = declare_shop(partitions=1), list[Any]()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought | None]) -> None:
        async for event in events:
            seen.append(event)

    async with running(shop.app) as service:
        await service.send(shop.buys, None, key=3)
        await service.send(shop.buys, Bought(3, 5), key=3)
        await service.until_applied()
    assert seen == [None, Bought(3, 5)]


async def test_an_event_comes_with_its_place_in_the_log() -> None:
    shop, seen = declare_shop(partitions=4), list[headrace.Delivery[Bought]]()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for delivery in events.events():
            seen.append(delivery)

    async with running(shop.app) as service:
        async with service.runtime.sending():
            sent = await shop.buys.send(
                key=6, value=Bought(6, 1), headers={"till": b"4"}, timestamp_ms=1_700_000_000_500
            )
        await service.until_applied()
    (place,) = sent.position
    (delivery,) = seen
    assert (delivery.topic, delivery.partition) == place
    assert delivery.offset == sent.position[place] - 1
    assert (delivery.key, delivery.value) == (6, Bought(6, 1))
    assert delivery.headers["till"] == b"4"
    assert delivery.timestamp == 1_700_000_000.5
    assert delivery.event_id == sent.event_id


async def test_an_event_of_a_foreign_producer_is_folded_all_the_same_and_its_place_is_its_id() -> None:
    shop, seen = declare_shop(partitions=1), list[headrace.Delivery[Bought]]()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for delivery in events.events():
            seen.append(delivery)

    async with running(shop.app) as service:
        await service.append("buys", b"3", b'{"type":"Bought","who":3,"cents":4}')
        await service.until_applied()
        await service.append("buys", b"3", b'{"type":"Bought","who":3,"cents":5}')
        await service.until_applied()
    assert [(d.value, d.envelope) for d in seen] == [(Bought(3, 4), None), (Bought(3, 5), None)]
    assert [d.event_id for d in seen] == [id_text(place_id("buys", 0, d.offset)) for d in seen]
