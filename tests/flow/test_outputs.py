"""What agents send: part of the unit that sent it, with an identity that a repeat does not change."""

import asyncio
from collections.abc import Sequence

import pytest

import headrace
from headrace import errors
from headrace.log.simulated.log import SimulatedLog
from tests.flow.shop import Bought, Shop, declare_shop, open_shop, purchases
from tests.service import committed, quick, running


async def receipts_of(events: Sequence[Bought]) -> list[headrace.Delivery[Bought]]:
    """What a fresh shop sends for these events."""
    shop = open_shop(partitions=1)
    async with running(shop.app) as service:
        await service.append("buys", b"0", b'{"type":"Bought","who":0,"cents":1}')
        for event in events:
            raw = shop.buys.values.encode(event)
            await service.append("buys", b"%d" % event.who, raw)
        await service.until_applied()
        return await service.outputs(shop.receipts)


async def test_an_output_has_the_same_id_whenever_and_wherever_it_is_sent() -> None:
    first = await receipts_of([Bought(1, 10), Bought(2, 20)])
    again = await receipts_of([Bought(1, 10), Bought(2, 20)])
    assert [d.event_id for d in first] == [d.event_id for d in again]
    assert len({d.event_id for d in first}) == 2


async def test_an_output_names_the_event_that_caused_it_and_the_one_that_began_it_all() -> None:
    shop = open_shop(partitions=1)
    echoes: headrace.Topic[int, Bought] = shop.app.topic("echoes", key_type=int, value_type=Bought)

    @shop.app.agent(shop.receipts, group="echo")
    async def echo(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            await echoes.send(value=event)

    async with running(shop.app) as service:
        sent = await service.send(shop.buys, Bought(1, 10), key=1)
        await service.until_applied()
        (receipt,) = await service.outputs(shop.receipts)
        (repeated,) = await service.outputs(echoes)
    assert receipt.envelope is not None
    assert repeated.envelope is not None
    assert receipt.envelope.causation_id == receipt.envelope.correlation_id == sent.event_id_raw
    assert repeated.envelope.causation_id == receipt.envelope.event_id
    assert repeated.envelope.correlation_id == sent.event_id_raw


async def test_an_output_has_the_key_of_the_event_in_hand_unless_another_is_given() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def answer(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            await shop.receipts.send(value=event)
            await shop.receipts.send(value=event, key=event.who + 100)

    async with running(shop.app) as service:
        await service.send(shop.buys, Bought(5, 1), key=5)
        await service.until_applied()
        assert {d.key for d in await service.outputs(shop.receipts)} == {5, 105}


def shop_that_raises_after_sending() -> Shop:
    """Its agent sends and writes, and raises at the purchase of 13 cents."""
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys, on_error=headrace.Stop())
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            await shop.receipts.send(value=event)
            if event.cents == 13:
                raise ValueError("thirteen")

    return shop


async def test_nothing_of_a_unit_is_visible_when_its_handler_raises() -> None:
    shop, log = shop_that_raises_after_sending(), SimulatedLog()
    async with running(shop.app, log=log, settings=quick()) as service:
        await service.send(shop.buys, Bought(1, 13), key=1)
        error = await service.standstill()
    assert isinstance(error, errors.HandlerError)
    assert await committed(log, shop.receipts) == []
    assert isinstance(error.__cause__, ValueError)
    assert (error.topic, error.partition, error.offset) == ("buys", 0, 0)
    assert "thirteen" in str(error)


async def test_what_a_sealed_unit_sent_is_visible_though_a_later_handler_raises() -> None:
    shop, log = shop_that_raises_after_sending(), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send(shop.buys, Bought(1, 1), key=1)
        await service.until_applied()
        await service.send(shop.buys, Bought(1, 13), key=1)
        assert isinstance(await service.standstill(), errors.HandlerError)
    assert [d.value.cents for d in await committed(log, shop.receipts)] == [1]


async def test_an_output_larger_than_the_bound_is_refused_where_it_is_sent() -> None:
    app = headrace.App("relay")
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
    target: headrace.Topic[int, bytes] = app.topic("out", key_type=int, partitions=1)

    @app.agent(source)
    async def relay(events: headrace.Stream[bytes]) -> None:
        async for event in events:
            with pytest.raises(errors.RecordTooLarge, match="topic out"):
                await target.send(value=event * 10_000)
            await target.send(value=event)

    async with running(app, settings=quick(record_bytes_max=5_000)) as service:
        await service.send(source, b"x", key=1)
        await service.until_applied()
        assert [d.value for d in await service.outputs(target)] == [b"x"]


async def test_a_request_is_one_transaction_and_knows_its_position() -> None:
    shop = open_shop(partitions=4)
    async with running(shop.app) as service:
        async with shop.app.sending() as scope:
            for event in purchases(20):
                sent = await shop.buys.send(key=event.who, value=event)
                with pytest.raises(errors.OutsideAgent, match="not committed yet"):
                    _ = sent.position
        await service.until_applied()
        assert service.position().covers(scope.position)
        assert sent.position == scope.position


async def test_a_request_that_raises_sends_nothing() -> None:
    shop = open_shop()
    async with running(shop.app) as service:

        async def request() -> None:
            async with shop.app.sending():
                await shop.buys.send(key=1, value=Bought(1, 1))
                raise LookupError

        with pytest.raises(LookupError):
            await request()
        await service.until_applied()
        assert await service.outputs(shop.buys) == []


async def test_requests_side_by_side_all_commit() -> None:
    shop, events = open_shop(), purchases(40)
    async with running(shop.app) as service:
        async with asyncio.TaskGroup() as crew:
            for event in events:
                crew.create_task(service.send(shop.buys, event, key=event.who), name="request")
        await service.until_applied()
        assert sum(row.visits for row in service.table("balances").rows().values()) == 40
