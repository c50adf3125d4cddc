"""What cannot be applied stops its partition in front of it, with an error that says what and where."""

import asyncio
from typing import Any

import pytest

import headrace
from headrace import TopicPartition, errors
from headrace.log.port import TopicSpec
from headrace.log.simulated.log import SimulatedLog
from tests.flow.shop import Bought, by_key, declare_shop, fold, open_shop, purchases
from tests.service import append, quick, running

KEYED = b'{"type":"Bought","who":1,"cents":1}'


async def given(log: SimulatedLog, *records: tuple[bytes | None, bytes | None]) -> None:
    """These records, in the shop's input before it opens."""
    await log.provision([TopicSpec(name="buys", partitions=1)])
    await append(log, "buys", records)


@pytest.mark.parametrize("before", [0, 1, 127, 128, 129, 300])
@pytest.mark.parametrize(
    ("bad", "said"),
    [((b"1", b"{]"), "cannot be decoded"), ((b"1", b'{"type":"Sold"}'), "Sold"), ((None, KEYED), "no key")],
)
async def test_an_event_that_cannot_be_read_stops_the_partition_and_all_before_it_is_committed(
    before: int, bad: tuple[bytes | None, bytes | None], said: str
) -> None:
    shop, log = open_shop(partitions=1, on_error=headrace.Stop()), SimulatedLog()
    await given(log, *[(b"1", KEYED)] * before, bad, (b"1", KEYED))
    async with running(shop.app, log=log) as service:
        error = await service.standstill()
    assert isinstance(error, errors.DecodeError)
    assert said in str(error)
    assert (error.topic, error.partition, error.offset) == ("buys", 0, before)
    changelog = log.cluster.partition(TopicPartition("shop.main.changelog", 0))
    records = zip(changelog.keys, changelog.values, strict=True)
    rows = [value for key, value in records if key and value and key[0]]
    counted = [shop.balances.values.decode(row).visits for row in rows]
    assert counted[-1:] == [before][:before]


async def test_an_agent_that_returns_is_named() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys, name="impatient")
    async def take_one(events: headrace.Stream[Bought]) -> None:
        async for _ in events:
            break

    async with running(shop.app) as service:
        await service.send_all(shop.buys, by_key(purchases(3)))
        error = await service.standstill()
    assert isinstance(error, errors.AgentReturned)
    assert "agent impatient returned" in str(error)
    assert (error.topic, error.partition, error.offset) == ("buys", 0, 0)


async def test_an_agent_that_never_asks_is_named_before_anything_is_served() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def idle(events: headrace.Stream[Bought]) -> None:
        return

    async with running(shop.app) as service:
        error = await service.standstill()
        assert service.runtime.views()[0].position == headrace.Position()
    assert isinstance(error, errors.AgentReturned)
    assert "idle returned" in str(error)


async def test_an_event_in_the_wrong_partition_is_named_with_both_partitions() -> None:
    shop = open_shop(partitions=2)
    home = shop.buys.partitioner.place(b"1", 2)
    async with running(shop.app) as service:
        await service.append("buys", b"1", KEYED, partition=1 - home)
        error = await service.standstill()
    assert isinstance(error, errors.PartitionerMismatch)
    assert f"belongs to partition {home} by murmur2" in str(error)
    assert error.partition == 1 - home


async def test_a_stop_lets_both_agents_of_a_topic_finish_the_same_events() -> None:
    shop = declare_shop(partitions=1)
    visits = shop.app.Table("visits", key_type=int, default=int)
    reached, go_on = asyncio.Event(), asyncio.Event()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    @shop.app.agent(shop.buys)
    async def count(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents == 3:
                reached.set()
                await go_on.wait()
            visits[event.who] += 1

    events, log = purchases(200), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await reached.wait()
        await service.begin_stop()
        go_on.set()
        await service.stop()
    async with running(shop.app, log=log) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        assert sum(service.table("visits").rows().values()) == len(events)


async def test_a_stop_commits_the_unit_in_hand_and_leaves_the_rest() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()
    reached, go_on = asyncio.Event(), asyncio.Event()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents == 40 and not go_on.is_set():
                reached.set()
                await go_on.wait()
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    events = purchases(400)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await reached.wait()
        await service.begin_stop()
        go_on.set()
        await service.stop()
        assert service.runtime.figures_of_flow.events == 41
    async with running(shop.app, log=log, settings=quick()) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)


async def test_an_event_nested_beyond_what_the_decoder_follows_stops_its_partition_by_name() -> None:
    app = headrace.App("deep")
    things: headrace.Topic[str, list[Any]] = app.topic("things", key_type=str, value_type=list, partitions=1)

    @app.agent(things, on_error=headrace.Stop)
    async def ignore(events: headrace.Stream[list[Any]]) -> None:
        async for _ in events:
            pass

    async with running(app) as service:
        await service.append("things", b"k", b"[" * 100_000 + b"]" * 100_000)
        failure = await service.standstill()
    assert isinstance(failure, errors.DecodeError)
    assert (failure.topic, failure.partition, failure.offset) == ("things", 0, 0)
