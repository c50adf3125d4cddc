"""A reset folds the inputs again and sends nothing twice, wherever it is interrupted."""

import asyncio
import contextlib
from collections import Counter

import pytest

import headrace
from headrace import errors
from headrace.cli.layout import find_layout
from headrace.clock import SYSTEM_CLOCK
from headrace.events.position import TopicPartition
from headrace.flow.reset import ResetTask, refuse_loss, refuse_running, reset_task
from headrace.log.port import Append, Log
from headrace.log.simulated.log import SimulatedLog
from tests.flow.mortal import LastingEngine, MortalCluster
from tests.flow.shop import Bought, Shop, by_key, declare_shop, fold, open_shop, purchases
from tests.flow.test_recovery import Life, live
from tests.service import Service, append, committed, quick, running

PEOPLE = 500
"""Enough rows for several units of tombstones."""
EVENTS = purchases(700, people=PEOPLE)


async def reset(shop: Shop, log: Log, *, takes_what_is_left: bool = False) -> list[ResetTask]:
    """Reset every task of the shop, as the command does."""
    layout = await find_layout(log, shop.app.declarations)
    group = layout.groups["main"]
    await refuse_running(log, "shop")
    if not takes_what_is_left:
        await refuse_loss(log, group)
    return [
        await reset_task(
            "shop",
            group,
            partition,
            log=log,
            clock=SYSTEM_CLOCK,
            takes_what_is_left=takes_what_is_left,
        )
        for partition in range(group.partitions)
    ]


async def lived(shop: Shop, log: Log, engine: LastingEngine, events: list[Bought] | None = None) -> None:
    """Let a worker handle these events, and stop it."""
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send_all(shop.buys, by_key(EVENTS if events is None else events))
        await service.until_applied()


async def check(shop: Shop, service: Service, events: list[Bought]) -> None:
    """Tables are the fold of the events, and each output is there once."""
    await service.until_applied()
    assert service.table("balances").rows() == fold(events)
    receipts = await committed(service.log, shop.receipts)
    assert Counter(d.value for d in receipts) == Counter(e for e in events if e.cents % 10 == 0)
    assert len({receipt.event_id for receipt in receipts}) == len(receipts)


async def test_a_reset_folds_the_inputs_with_todays_agent_and_sends_nothing_again() -> None:
    old, log, engine = declare_shop(partitions=1), SimulatedLog(), LastingEngine()

    @old.app.agent(old.buys)
    async def earn_wrongly(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            old.balances[-1 - event.who] = old.balances[event.who].plus(event).plus(event)
            if event.cents % 10 == 0:
                await old.receipts.send(value=event)

    await lived(old, log, engine)
    shop = open_shop(partitions=1)
    (done,) = await reset(shop, log)
    assert done.rows == PEOPLE
    assert done.inputs["buys"] == 0
    assert done.muted_until["buys"] >= len(EVENTS)
    more = purchases(50)
    async with running(shop.app, log=log, engine=engine) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(EVENTS)
        sent = len(await committed(log, shop.receipts))
        await service.send_all(shop.buys, by_key(more))
        await service.until_applied()
        assert service.table("balances").rows() == fold([*EVENTS, *more])
        assert sent == sum(event.cents % 10 == 0 for event in EVENTS)
        assert len(await committed(log, shop.receipts)) - sent == sum(e.cents % 10 == 0 for e in more)


async def test_wherever_a_reset_is_interrupted_the_next_worker_finishes_it() -> None:
    cut_after, is_over, interrupted = 0, False, 0
    while not is_over:
        shop, cluster, engine = open_shop(partitions=1), MortalCluster(), LastingEngine()
        log = SimulatedLog(cluster)
        await lived(shop, log, engine)
        cluster.cut_after(cut_after)
        try:
            await reset(shop, log)
            is_over = True
        except errors.Unavailable:
            interrupted += 1
        cluster.mend()
        # Every second time a second reset comes first, every third time the worker has lost its disk.
        if cut_after % 2:
            await reset(shop, log)
        if cut_after % 3 == 2:
            engine = LastingEngine()
        async with running(shop.app, log=log, engine=engine) as service:
            await check(shop, service, EVENTS)
            await service.send(shop.buys, Bought(1, 10), key=1)
            await check(shop, service, [*EVENTS, Bought(1, 10)])
        cut_after += 1
    assert interrupted > 10


@pytest.mark.parametrize("step", range(2, 62, 4))
async def test_wherever_a_worker_dies_while_it_folds_again_nothing_is_sent_twice(step: int) -> None:
    shop, cluster, engine = open_shop(partitions=1), MortalCluster(), LastingEngine()
    log = SimulatedLog(cluster)
    await lived(shop, log, engine)
    cluster.cut_after(20)
    with contextlib.suppress(errors.Unavailable):
        await reset(shop, log)
    cluster.mend()
    small = quick(unit_records_max=100)
    for _ in range(3):
        await live(shop, cluster, engine, Life([], step, None), small)
    async with running(shop.app, log=log, engine=engine, settings=small) as service:
        await check(shop, service, EVENTS)


async def test_a_reset_is_refused_while_a_worker_runs() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log, settings=quick(instance="till-1")) as service:
        await service.send(shop.buys, Bought(1, 1), key=1)
        with pytest.raises(errors.AlreadyRunning, match=r"1 worker\(s\) of it run: till-1"):
            await reset(shop, log)
        await check(shop, service, [Bought(1, 1)])


async def test_a_worker_that_starts_during_a_reset_wins_and_finishes_it() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    await lived(shop, log, engine)
    resetting = asyncio.create_task(reset(shop, log), name="reset")
    began = asyncio.Event()
    log.cluster.topics["shop.main.changelog"].partitions[0].followers[began] = None
    await began.wait()
    async with running(shop.app, log=log, engine=engine) as service:
        with contextlib.suppress(errors.Fenced):
            await resetting
        await check(shop, service, EVENTS)


async def test_an_input_that_lost_its_beginning_is_reset_only_if_told_so() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    await lived(shop, log, engine)
    log.cluster.trim(TopicPartition("buys", 0), 200)
    with pytest.raises(errors.OffsetOutOfRange, match=r"the input begins at offset 200.*--from-what-is-left"):
        await reset(shop, log)
    async with running(shop.app, log=log, engine=engine) as service:
        await check(shop, service, EVENTS)
    await reset(shop, log, takes_what_is_left=True)
    async with running(shop.app, log=log, engine=engine) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(EVENTS[200:])


async def test_after_a_recreated_input_a_reset_folds_the_new_one_and_mutes_nothing_of_it() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    await lived(shop, log, engine, purchases(40))
    log.cluster.delete("buys")
    with pytest.raises(errors.TopicMismatch, match="headrace reset main --from-what-is-left"):
        async with running(shop.app, log=log, engine=engine):
            pass
    with pytest.raises(errors.TopicMismatch, match="this input was recreated"):
        await reset(shop, log)
    await reset(shop, log, takes_what_is_left=True)
    sent = len(await committed(log, shop.receipts))
    async with running(shop.app, log=log, engine=engine) as service:
        await service.send_all(shop.buys, by_key(purchases(20)))
        await service.until_applied()
        assert service.table("balances").rows() == fold(purchases(20))
        assert len(await committed(log, shop.receipts)) == sent + 2


async def test_after_an_input_lost_its_end_its_new_events_are_not_muted() -> None:
    shop, log, engine = open_shop(partitions=1), SimulatedLog(), LastingEngine()
    await lived(shop, log, engine, purchases(40))
    buys = log.cluster.topics["buys"].partitions[0]
    buys.keep(range(20))
    buys.end = 20
    with pytest.raises(errors.OffsetOutOfRange, match="The input lost its end"):
        async with running(shop.app, log=log, engine=engine):
            pass
    await reset(shop, log)
    sent = len(await committed(log, shop.receipts))
    raw = shop.buys.values.encode(Bought(1, 10))
    writer = await log.writer("elsewhere")
    await writer.commit([Append("buys", 0, [(b"1", raw, (), 0)])])
    async with running(shop.app, log=log, engine=engine) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold([*purchases(20), Bought(1, 10)])
        assert len(await committed(log, shop.receipts)) == sent + 1


async def test_a_changelog_that_lost_its_beginning_is_refused_until_the_tables_are_reset() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    await lived(shop, log, LastingEngine(), purchases(40))
    log.cluster.trim(TopicPartition("shop.main.changelog", 0), 5)
    with pytest.raises(errors.OffsetOutOfRange, match=r"begins at offset 5.*`headrace reset GROUP`"):
        async with running(shop.app, log=log, engine=LastingEngine()):
            pass
    await reset(shop, log)
    for _ in range(2):
        async with running(shop.app, log=log, engine=LastingEngine()) as service:
            await check(shop, service, purchases(40))


async def test_dead_letters_are_written_again_and_replayed_ones_are_not_read_again() -> None:
    shop, log, engine = declare_shop(partitions=1), SimulatedLog(), LastingEngine()

    @shop.app.agent(shop.buys)
    async def refuse_sevens(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents == 7:
                raise ValueError("seven")
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    async def until_applied_and_refused(refused: int) -> None:
        async with running(shop.app, log=log, engine=engine) as service:
            await service.until_applied()
            letters = log.cluster.topics["shop.dead-letters"].partitions[0]
            assert len(letters.offsets) == refused
            assert service.table("balances").rows() == fold([e for e in purchases(20) if e.cents != 7])

    await lived(shop, log, engine, purchases(20))
    await until_applied_and_refused(1)
    # Were it read again it would be the second letter of its event, which is folded itself.
    end = await append(log, "shop.main.replay", [(b"0", b"replayed once")])
    (done,) = await reset(shop, log)
    assert done.inputs["shop.main.replay"] >= end
    await until_applied_and_refused(2)


async def test_what_was_too_large_to_be_sent_is_refused_again_although_it_is_muted() -> None:
    shop, log, engine = declare_shop(partitions=1), SimulatedLog(), LastingEngine()
    app = shop.app
    notes = app.topic("notes", value_type=bytes, partitions=1)

    @app.agent(shop.buys)
    async def note_all(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            await notes.send(value=b"x" * (2_000_000 if event.cents == 7 else 10))

    kept = [event for event in purchases(20) if event.cents != 7]
    await lived(shop, log, engine, purchases(20))
    async with running(app, log=log, engine=engine) as service:
        assert service.table("balances").rows() == fold(kept)
    await reset(shop, log)
    async with running(app, log=log, engine=engine) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(kept)
        assert len(log.cluster.topics["notes"].partitions[0].offsets) == len(kept)
