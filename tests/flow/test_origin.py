"""Why a row is so: the events that wrote it, found by folding its partition once more from the log alone."""

from random import Random
from typing import Any

import pytest

import headrace
from headrace import TopicPartition
from headrace.events.envelope import Envelope, encode_envelope
from headrace.flow.keyhistory import naming_of
from headrace.log.simulated.log import SimulatedLog
from headrace.testing import Poison, harness
from headrace.testing.fold import with_crashes
from tests.flow.letters import Unlucky, letters
from tests.flow.mortal import LastingEngine
from tests.flow.shop import Balance, Bought, Shop, by_key, declare_shop, open_shop, purchases
from tests.flow.test_replay import replay
from tests.flow.test_reset import reset
from tests.flow.told import origin_of
from tests.service import running


def says(table: headrace.Table[Any, Any], rows: list[bytes | None]) -> list[Any]:
    return [None if row is None else table.values.decoded(row) for row in rows]


async def test_the_events_that_wrote_a_row_are_told_in_order_each_with_the_row_it_left() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(purchases(30)))
        await service.until_applied()
    before = {place: (await log.offsets([place]))[place] for place in [TopicPartition("receipts", 0)]}
    origin = await origin_of(shop.app, log, shop.balances, 3)
    bought = [event for event in purchases(30) if event.who == 3]
    balances = [Balance()]
    for event in bought:
        balances.append(balances[-1].plus(event))
    assert [shop.buys.decode(link.fact.raw.value) for link in origin.links] == bought
    assert says(shop.balances, [link.row for link in origin.links]) == balances[1:]
    assert {link.fact.kind for link in origin.links} == {"Bought"}
    assert (origin.is_borne_out, origin.left_out, origin.refusals) == (True, 0, [])
    assert origin.row == origin.told
    assert origin.position == {"buys": 31}
    assert before == {place: (await log.offsets([place]))[place] for place in before}, "something was sent"


async def test_a_row_that_nobody_wrote_has_no_origin_and_a_deleted_one_has() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()

    @shop.app.agent(shop.buys)
    async def keep_the_large(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents > 10:
                shop.balances[event.who] = Balance(event.cents, 1)
            else:
                shop.balances.discard(event.who)

    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(3, 50), Bought(3, 1)]))
        await service.until_applied()
    gone = await origin_of(shop.app, log, shop.balances, 3)
    assert says(shop.balances, [link.row for link in gone.links]) == [Balance(50, 1), None]
    assert (gone.row, gone.told, gone.is_borne_out) == (None, None, True)
    nobody = await origin_of(shop.app, log, shop.balances, 4)
    assert (nobody.row, nobody.links, nobody.is_borne_out) == (None, [], True)


async def test_an_event_of_another_key_that_wrote_the_row_is_told_and_one_that_only_read_it_is_not() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()

    @shop.app.agent(shop.buys)
    async def give_to_nine(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            assert shop.balances[9].visits >= 0
            if event.cents % 2:
                shop.balances[9] = shop.balances[9].plus(event)
                shop.balances[9] = shop.balances[9].plus(event)

    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(1, 1), Bought(2, 2), Bought(3, 3)]))
        await service.until_applied()
    origin = await origin_of(shop.app, log, shop.balances, 9)
    assert [link.fact.raw.key for link in origin.links] == [b"1", b"3"]
    assert says(shop.balances, [origin.links[0].row]) == [Balance(2, 2)]
    assert origin.is_borne_out


def clumsy(is_fixed: bool) -> Shop:
    """A shop that refuses some events, and later no more."""
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys, name="earn")
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            if event.cents % 10 == 3 and not is_fixed:
                raise Unlucky

    @shop.app.agent(shop.buys, name="count")
    async def count(events: headrace.Stream[Bought]) -> None:
        async for _ in events:
            pass

    return shop


@pytest.mark.parametrize("is_fixed", [False, True], ids=["as the agent was", "the agent is mended by now"])
async def test_what_was_refused_is_not_in_the_row_and_is_told_apart(is_fixed: bool) -> None:
    shop, log = clumsy(is_fixed=False), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(3, cents) for cents in (1, 3, 5, 13)]))
        await service.append("buys", b"3", b"no event")
        await service.until_applied()
    shop = clumsy(is_fixed)
    origin = await origin_of(shop.app, log, shop.balances, 3)
    assert [shop.buys.decode(link.fact.raw.value) for link in origin.links] == [Bought(3, 1), Bought(3, 5)]
    assert origin.is_borne_out
    assert [(each.agent, each.error) for each in origin.refusals] == [
        ("earn", "Unlucky"),
        ("earn", "Unlucky"),
        ("", "DecodeError"),
    ]


async def test_a_dead_letter_is_told_where_it_was_replayed_and_not_where_it_was_refused() -> None:
    shop, log = clumsy(is_fixed=False), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(3, cents) for cents in (1, 3, 5, 13)]))
        await service.until_applied()
        await replay(log, letters(log)[:1])  # and refused again
        await service.until_replayed()
    first, second, _ = letters(log)
    shop = clumsy(is_fixed=True)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(3, 7)]))
        await service.until_applied()
        await replay(log, [first, second])
        await service.until_replayed()
        await service.send_all(shop.buys, by_key([Bought(3, 9)]))
        await service.until_applied()
    origin = await origin_of(shop.app, log, shop.balances, 3)
    told = [(shop.buys.decode(link.fact.raw.value).cents, link.is_replayed) for link in origin.links]
    assert told == [(1, False), (5, False), (7, False), (3, True), (13, True), (9, False)]
    assert origin.is_borne_out


async def test_after_a_reset_the_row_is_made_of_what_was_folded_since() -> None:
    shop, log, engine = clumsy(is_fixed=False), SimulatedLog(), LastingEngine()
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send_all(shop.buys, by_key([Bought(3, cents) for cents in (1, 3, 5)]))
        await service.until_applied()
        await replay(log, letters(log))
        await service.until_replayed()
    shop = clumsy(is_fixed=True)
    await reset(shop, log)
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send_all(shop.buys, by_key([Bought(3, 7)]))
        await service.until_applied()
    for is_compacted in (False, True):
        origin = await origin_of(shop.app, log, shop.balances, 3)
        assert [shop.buys.decode(link.fact.raw.value).cents for link in origin.links] == [1, 3, 5, 7]
        assert origin.is_borne_out
        if not is_compacted:
            log.cluster.compact("shop.main.changelog", purges_tombstones=True)


async def test_a_group_that_began_at_the_end_of_its_input_is_told_from_there() -> None:
    log = SimulatedLog()
    before = open_shop(partitions=1)
    async with running(before.app, log=log) as service:
        await service.send_all(before.buys, by_key([Bought(3, 1)]))
        await service.until_applied()
    app = headrace.App("late")
    buys = app.topic("buys", key_type=int, value_type=Bought, partitions=1, start="latest")
    spent: headrace.Table[int, int] = app.Table("spent", key_type=int, default=int)

    @app.agent(buys)
    async def add(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            spent[event.who] += event.cents

    async with running(app, log=log) as service:
        await service.send_all(buys, by_key([Bought(3, 20)]))
        await service.until_applied()
    origin = await origin_of(app, log, spent, 3)
    assert [link.row for link in origin.links] == [b"20"]
    assert origin.is_borne_out


async def test_events_that_are_deleted_or_agents_that_changed_are_told_and_never_passed_over() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        for cents in (1, 2, 3):
            await service.send_all(shop.buys, by_key([Bought(3, cents)]))
        await service.until_applied()
    assert (await origin_of(shop.app, log, shop.balances, 3)).is_borne_out

    changed = declare_shop(partitions=1)

    @changed.app.agent(changed.buys, name="earn")
    async def refuse(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            changed.balances[event.who] = Balance()
            if event.cents == 2:
                raise Unlucky

    other = await origin_of(changed.app, log, changed.balances, 3)
    assert (other.is_borne_out, other.failed, len(other.links)) == (False, 1, 2)
    assert says(changed.balances, [other.row, other.told]) == [Balance(6, 3), Balance()]

    log.cluster.trim(TopicPartition("buys", 0), 2)
    cut = await origin_of(shop.app, log, shop.balances, 3)
    assert cut.begins_at == {TopicPartition("buys", 0): 2}
    assert (cut.is_borne_out, says(shop.balances, [cut.told])) == (False, [Balance(5, 2)])


async def test_the_newest_ones_are_told_and_what_takes_too_long_ends() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key([Bought(3, cents) for cents in range(20)]))
        await service.until_applied()
    origin = await origin_of(shop.app, log, shop.balances, 3, limit=2)
    assert ([link.fact.offset for link in origin.links], origin.left_out) == ([18, 19], 18)
    assert origin.is_borne_out
    cut = await origin_of(shop.app, log, shop.balances, 3, is_over=lambda: True)
    assert (cut.is_whole, cut.is_borne_out) == (False, False)


class Told(headrace.Event, frozen=True):
    """Somebody was told of a purchase."""

    who: int
    cents: int


class Untold(headrace.Correction[Told], frozen=True, kw_only=True):
    """That was wrong."""

    who: int


def town() -> tuple[headrace.App, headrace.App, Any]:
    """A shop that tells of large purchases, and a house that hears both, and sometimes corrects."""
    shop = headrace.App("shop")
    buys = shop.topic("buys", key_type=int, value_type=Bought, partitions=2)
    told = shop.topic("told", key_type=int, value_type=Told, partitions=2)

    @shop.agent(buys)
    async def tell(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents % 3 == 0:
                await told.send(value=Told(event.who, event.cents))

    house = headrace.App("house")
    heard_buys = house.topic("buys", key_type=int, value_type=Bought, partitions=2)
    heard_told = house.topic("told", key_type=int, value_type=Told, partitions=2)
    untold = house.topic("untold", key_type=int, value_type=Untold, partitions=2)
    notes: headrace.Table[int, tuple[str, ...]] = house.Table(
        "notes", key_type=int, value_type=tuple[str, ...], default=tuple
    )

    @house.agent(heard_buys)
    async def note_buys(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            notes[event.who] = (*notes[event.who], f"bought {event.cents}")

    @house.agent(heard_told)
    async def note_told(events: headrace.Stream[Told]) -> None:
        async for delivery in events.events():
            event = delivery.value
            notes[event.who] = (*notes[event.who], f"told {event.cents}")
            if event.cents == 9:
                await untold.send(
                    value=Untold(corrects=delivery.event_id, reason="nobody asked", who=event.who)
                )

    return shop, house, notes


async def test_what_an_event_had_to_wait_for_is_told_by_place_and_id_and_so_is_its_correction() -> None:
    shop, house, notes = town()
    buys = shop.declarations.topics["buys"]
    async with harness(shop, house, key="who") as h:
        bought = [await h.send(buys, Bought(5, cents)) for cents in (1, 9, 2)]
        origin = await origin_of(house, SimulatedLog(h.log), notes, 5)
    (told,) = [link for link in origin.links if link.fact.kind == "Told"]
    (cause,) = told.causes
    assert cause.fact is not None
    assert cause.fact.event_id == bought[1].event_id == told.fact.causation_id
    assert (cause.place.topic, cause.fact.kind, cause.fact.offset) == (
        "buys",
        "Bought",
        cause.offset_next - 1,
    )
    assert [(by.kind, by.reason) for by in told.fact.corrected_by] == [("Untold", "nobody asked")]
    assert [link.causes for link in origin.links if link.fact.kind == "Bought"] == [[], [], []]
    assert origin.is_borne_out


@pytest.mark.parametrize("seed", range(5))
async def test_every_row_is_borne_out_whatever_crashed_and_however_inputs_were_mixed(seed: int) -> None:
    shop, house, notes = town()
    rng = Random(seed)
    events: list[Any] = [Bought(rng.randrange(4), rng.randrange(30)) for _ in range(60)]
    events.insert(rng.randrange(60), Poison(b"\xff", topic="told", key=b"1"))
    async with harness(shop, house, key="who", workers=1 + seed % 2) as h:
        await h.run(with_crashes(events, 12, rng, apps=[shop, house], workers=1 + seed % 2))
        log = SimulatedLog(h.log)
        rows = h[house].table(notes).rows()
        for who, row in rows.items():
            origin = await origin_of(house, log, notes, who)
            assert origin.is_borne_out, (who, row, origin.told)
            assert [len(notes.values.decoded(link.row or b"")) for link in origin.links] == [
                *range(1, len(row) + 1)
            ]


async def test_a_row_whose_agent_looks_into_a_global_table_is_told_and_what_that_table_had_to_have() -> None:
    app = headrace.App("priced")
    prices = app.topic("prices", key_type=int, value_type=Bought, partitions=2)
    buys = app.topic("buys", key_type=int, value_type=Bought, partitions=2)
    price: headrace.GlobalTable[int, int] = app.GlobalTable("price", key_type=int, default=int)
    paid: headrace.Table[int, int] = app.Table("paid", key_type=int, default=int)

    @app.agent(prices, group="price")
    async def keep_prices(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            price[event.who] = event.cents

    @app.agent(buys)
    async def pay(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            paid[event.who] += price[event.who + 1] * event.cents

    async with running(app) as service:
        log = service.log
        priced = await service.send(prices, Bought(4, 25), key=4)
        seen = (await naming_of(log)).catalog.seen(priced.position)
        stamped = encode_envelope(Envelope(b"\1" * 16, 1, stamp=seen.encode()))
        home = buys.partitioner.place(b"3", 2)
        value = b'{"type":"Bought","who":3,"cents":2}'
        await service.append("buys", b"3", value, partition=home, headers=stamped)
        await service.until_applied()
        origin = await origin_of(app, log, paid, 3)
    assert (origin.row, origin.is_borne_out) == (b"50", True)
    ((cause,),) = [link.causes for link in origin.links]
    assert cause.fact is not None
    assert cause.fact.event_id == priced.event_id
