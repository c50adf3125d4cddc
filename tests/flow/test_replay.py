"""A dead letter that is replayed reaches the agent that refused it, once, and nobody else."""

import headrace
from headrace.flow.deadletter import Letter, replay_name
from headrace.log.port import Append
from headrace.log.simulated.log import SimulatedLog
from tests.flow.letters import Unlucky, letters
from tests.flow.shop import Bought, Shop, by_key, declare_shop, fold, open_shop, purchases
from tests.service import running


async def replay(log: SimulatedLog, found: list[Letter]) -> None:
    """Put dead letters on the hidden input, as the command does."""
    writer = await log.writer("replaying")
    for letter in found:
        record = (letter.key, letter.value, letter.to_headers(), letter.timestamp_ms)
        await writer.commit([Append(replay_name("shop", letter.group), letter.partition, [record])])
    await writer.close()


async def test_a_replayed_dead_letter_reaches_the_agent_that_refused_it_and_no_other() -> None:
    log, events, is_fixed = SimulatedLog(), purchases(100), False

    def declare() -> Shop:
        shop = declare_shop(partitions=1)
        visits = shop.app.Table("visits", key_type=int, default=int)

        @shop.app.agent(shop.buys, name="earn")
        async def earn(events: headrace.Stream[Bought]) -> None:
            async for delivery in events.events():
                event = delivery.value
                if event.cents % 10 == 3 and not is_fixed:
                    raise Unlucky
                assert (delivery.topic, delivery.key) == ("buys", event.who)
                shop.balances[event.who] = shop.balances[event.who].plus(event)
                await shop.receipts.send(value=event)

        @shop.app.agent(shop.buys, name="count")
        async def count(events: headrace.Stream[Bought]) -> None:
            async for event in events:
                visits[event.who] += 1

        return shop

    shop = declare()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        refused = letters(log)
        assert len(refused) == 10
        await replay(log, refused[:1])
        await service.until_applied()
        await service.until_replayed()
        assert letters(log)[10].offset == refused[0].offset
    is_fixed = True
    shop = declare()
    async with running(shop.app, log=log) as service:
        await replay(log, refused)
        await service.until_replayed()
        assert service.table("balances").rows() == fold(events)
        assert sum(service.table("visits").rows().values()) == len(events)
        receipts = await service.outputs(shop.receipts)
        assert sorted(d.value.cents for d in receipts) == [event.cents for event in events]
        assert len({d.event_id for d in receipts}) == len(events)
        assert all("replay" not in place.topic for place in service.position())
    async with running(declare().app, log=log) as service:
        await service.until_replayed()
        assert service.table("balances").rows() == fold(events)


async def test_what_is_no_dead_letter_or_whose_agent_is_gone_goes_back_among_the_dead_letters() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.append(replay_name("shop", "main"), b"k", b"v")
        gone = Letter(
            key=b"1", value=b"{}", headers=(), topic="buys", partition=0, offset=7, timestamp_ms=1,
            group="main", agent="gone", error="Unlucky", reason="", at_ms=1,
        )  # fmt: skip
        await replay(log, [gone])
        await service.until_replayed()
    stray, returned = letters(log)
    assert (stray.topic, stray.value, stray.reason) == (
        replay_name("shop", "main"),
        b"v",
        "this is no dead letter",
    )
    assert (returned.topic, returned.offset, returned.agent) == ("buys", 7, "gone")
    assert "no agent gone" in returned.reason
