"""A bad event ends among the dead letters or stops its partition; all else goes on exactly once."""

import asyncio
from typing import Any

import pytest

import headrace
from headrace import DeadLetter, Retry, Stop, errors
from headrace.flow.deadletter import dead_letters_name
from headrace.flow.policy import IN_A_ROW_MAX
from headrace.log.simulated.log import SimulatedLog
from tests.flow.letters import Unlucky, letters
from tests.flow.shop import Bought, Shop, by_key, declare_shop, fold, open_shop, purchases
from tests.service import append, quick, running

UNLUCKY = 13


def unlucky_shop(on_error: Any = None, *, times: int = 10**9, partitions: int = 1) -> tuple[Shop, list[int]]:
    """A shop whose agent writes and sends, and then raises at amounts that end on 13; and when it raised."""
    shop, raised = declare_shop(partitions=partitions), list[int]()

    @shop.app.agent(shop.buys, on_error=on_error)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            await shop.receipts.send(value=event)
            if event.cents % 100 == UNLUCKY and raised.count(event.cents) < times:
                raised.append(event.cents)
                raise Unlucky(event.cents)

    return shop, raised


def lucky(events: list[Bought]) -> list[Bought]:
    """The events that no agent refuses."""
    return [event for event in events if event.cents % 100 != UNLUCKY]


@pytest.mark.parametrize("unit_records_max", [1, 7, 10_000])
async def test_refused_events_are_dead_letters_and_all_others_are_folded_and_answered_once(
    unit_records_max: int,
) -> None:
    (shop, _), log, events = unlucky_shop(), SimulatedLog(), purchases(1_000)
    async with running(shop.app, log=log, settings=quick(unit_records_max=unit_records_max)) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(lucky(events))
        receipts = [delivery.value.cents for delivery in await service.outputs(shop.receipts)]
        assert sorted(receipts) == [event.cents for event in lucky(events)]
        figures = service.runtime.figures_of_flow
        assert figures.dead_letters == 10
        assert figures.agents["main", shop.app.declarations.agents[0].name].events == 990
    refused = letters(log)
    assert [shop.buys.decode(letter.value).cents for letter in refused] == [
        event.cents for event in events if event not in lucky(events)
    ]
    first = refused[0]
    assert (first.topic, first.partition, first.offset) == ("buys", 0, 13)
    assert (first.group, first.error) == ("main", "Unlucky")
    assert "Unlucky(13)" in first.reason
    assert first.key == b"6"
    assert [name for name, _ in first.headers] == ["hr"]


async def test_what_each_kind_of_bad_bytes_becomes_and_what_is_accepted() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    good = b'{"type":"Bought","who":1,"cents":1}'
    bad = [
        (b"1", b"\xff\xfe", "cannot be decoded"),
        (b"1", b"", "cannot be decoded"),
        (b"1", good[:-5], "cannot be decoded"),
        (b"1", b'{"type":"Bought","who":"x","cents":1}', "Expected `int`"),
        (b"1", b'{"type":"Bought","who":1}', "cents"),
        (b"1", b'{"type":"Sold","who":1,"cents":1}', "Sold"),
        (b"1", b"[" * 50_000, "cannot be decoded"),
        (None, good, "no key"),
    ]
    async with running(shop.app, log=log) as service:
        for key, value, _ in bad:
            await service.append("buys", key, value, headers=(("trace", b"\x00\xff"),))
            await service.append("buys", b"1", good)
        await service.until_applied()
        assert service.table("balances")[1].visits == len(bad)
    found = letters(log)
    assert [(letter.key, letter.value, letter.headers) for letter in found] == [
        (key, value, (("trace", b"\x00\xff"),)) for key, value, _ in bad
    ]
    assert [letter.offset for letter in found] == [4 * index for index in range(len(bad))]
    for letter, (_, _, said) in zip(found, bad, strict=True):
        assert letter.error == "DecodeError"
        assert said in letter.reason
        assert letter.agent == ""


async def test_an_event_without_key_and_headers_is_accepted_where_the_topic_declares_no_key() -> None:
    app, seen = headrace.App("open"), list[bytes]()
    notes: headrace.Topic[bytes, bytes] = app.topic("notes", partitions=1)

    @app.agent(notes)
    async def note(events: headrace.Stream[bytes]) -> None:
        async for event in events:
            seen.append(event)

    async with running(app) as service:
        await service.append("notes", None, b"anything")
        await service.until_applied()
    assert seen == [b"anything"]


async def test_two_agents_fail_separately_and_the_other_keeps_its_writes() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()
    visits = shop.app.Table("visits", key_type=int, default=int)

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            if event.cents % 10 == 3:
                raise Unlucky

    @shop.app.agent(shop.buys)
    async def count(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            visits[event.who] += 1
            if event.cents % 10 == 4:
                raise Unlucky

    events = purchases(500)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold([e for e in events if e.cents % 10 != 3])
        assert sum(service.table("visits").rows().values()) == 450
    by_agent = [letter.agent.rsplit(".", 1)[-1] for letter in letters(log)]
    assert (by_agent.count("earn"), by_agent.count("count")) == (50, 50)


async def test_retries_keep_order_and_an_event_that_recovers_leaves_no_dead_letter() -> None:
    (shop, raised), log, events = unlucky_shop(Retry(3, backoff_s=0), times=2), SimulatedLog(), purchases(300)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        receipts = [delivery.value.cents for delivery in await service.outputs(shop.receipts)]
    for who in range(7):
        of_one = [cents for cents in receipts if cents % 7 == who]
        assert of_one == sorted(of_one)
    assert sorted(receipts) == [event.cents for event in events]
    assert sorted(raised) == [13, 13, 113, 113, 213, 213]
    assert letters(log) == []


async def test_an_event_that_no_retry_helps_is_a_dead_letter_after_as_many_tries() -> None:
    (shop, raised), log, events = unlucky_shop(Retry(2, backoff_s=0)), SimulatedLog(), purchases(100)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(lucky(events))
        assert service.runtime.figures_of_flow.retries == 2
    # Once in the unit of all, once guarded, then three times by itself.
    assert len(raised) == 5
    assert [letter.offset for letter in letters(log)] == [13]


async def test_a_stop_while_an_event_waits_for_its_next_try_commits_what_lies_before_it() -> None:
    (shop, raised), log = unlucky_shop(Retry(1, backoff_s=3_600, backoff_max_s=3_600)), SimulatedLog()
    events = purchases(100)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        async with asyncio.timeout(30):
            while len(raised) < 3:
                await service.until_change(service.runtime.views()[0])
        assert service.table("balances").rows() == fold(events[:13])
        await service.stop()
    assert letters(log) == []


async def test_a_stop_policy_commits_what_lies_before_and_the_worker_runs_on() -> None:
    (shop, _), log, events = unlucky_shop(Stop, partitions=2), SimulatedLog(), purchases(200)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        error = await service.standstill()
        assert isinstance(error, errors.HandlerError)
        stopped = service.runtime.view("main", error.partition or 0)
        other = service.runtime.view("main", 1 - (error.partition or 0))
        assert stopped is not None
        assert other is not None
        with pytest.raises(errors.PartitionStopped, match="HandlerError"):
            stopped.get(b"balances\0x")
    (shop, _) = unlucky_shop(times=0, partitions=2)
    async with running(shop.app, log=log) as service:
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)


async def test_a_hundred_dead_letters_in_a_row_stop_the_partition_before_they_are_committed() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()
    broken = True

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if broken and event.cents >= 5:
                raise Unlucky
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    events = purchases(500)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        error = await service.standstill()
    assert isinstance(error, errors.TooManyDeadLetters)
    assert f"{IN_A_ROW_MAX} events in a row" in str(error)
    assert (error.topic, error.partition, error.offset) == ("buys", 0, 104)
    broken = False
    async with running(shop.app, log=log) as service:
        await service.until_applied()
        buried = {letter.offset for letter in letters(log)}
        assert len(buried) < IN_A_ROW_MAX
        assert service.table("balances").rows() == fold([e for i, e in enumerate(events) if i not in buried])


async def test_dead_letters_with_a_success_between_them_never_stop_a_partition() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    good = b'{"type":"Bought","who":1,"cents":1}'
    records: list[tuple[bytes | None, bytes | None]] = [(b"1", b"{"), (b"1", good)]
    async with running(shop.app, log=log) as service:
        await append(log, "buys", records * 300)
        await service.until_applied()
        assert service.table("balances")[1].visits == 300
    assert len(letters(log)) == 300


async def test_a_unit_that_the_log_refuses_is_narrowed_down_to_the_one_event() -> None:
    app, log = headrace.App("shop"), SimulatedLog()
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
    target: headrace.Topic[bytes, bytes] = app.topic("out", partitions=1, compacting=True)
    counts = app.Table("counts", key_type=int, default=int)

    @app.agent(source)
    async def relay(events: headrace.Stream[bytes]) -> None:
        async for event in events:
            counts[1] += 1
            # A compacted topic takes no record without a key.
            await target.send(value=event, key=None if event == b"17" else b"k")

    async with running(app, log=log) as service:
        await service.send_all(source, [(1, b"%d" % index) for index in range(40)])
        await service.until_applied()
        assert service.table("counts")[1] == 39
        assert [d.value for d in await service.outputs(target)] == [b"%d" % i for i in range(40) if i != 17]
    (letter,) = letters(log)
    assert (letter.offset, letter.error) == (17, "RecordRefused")


async def test_a_value_that_cannot_be_encoded_when_the_unit_ends_is_narrowed_down_to_its_event() -> None:
    app, log = headrace.App("shop"), SimulatedLog()
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
    rows = app.Table("rows", key_type=int, value_type=str)

    @app.agent(source)
    async def write(events: headrace.Stream[bytes]) -> None:
        async for event in events:
            rows[int(event)] = "\ud800" if event == b"17" else "fine"

    async with running(app, log=log) as service:
        await service.send_all(source, [(1, b"%d" % index) for index in range(40)])
        await service.until_applied()
        assert service.table("rows").rows() == {index: "fine" for index in range(40) if index != 17}
    (letter,) = letters(log)
    assert (letter.offset, letter.error) == (17, "UnencodableValue")


async def test_a_dead_letter_that_its_topic_does_not_take_stops_the_partition_by_name() -> None:
    (shop, _), log = unlucky_shop(), SimulatedLog()
    async with running(shop.app, log=log) as service:
        limit = log.cluster.topics[dead_letters_name("shop")].record_bytes_max
        assert limit == log.cluster.topics["buys"].record_bytes_max + 64 * 1024
        value = shop.buys.values.encode(Bought(1, UNLUCKY))
        await service.append("buys", b"1", value, headers=[("h", b"")] * 9_000)
        await service.append("buys", b"1", value, headers=[("h", b"x" * 4)] * 150_000)
        error = await service.standstill()
    assert isinstance(error, errors.RecordTooLarge)
    assert "Raise max.message.bytes of shop.dead-letters" in str(error)
    assert "Unlucky" in str(error)
    assert error.offset == 2


async def test_a_dead_letter_that_somebody_puts_back_by_hand_keeps_its_headers() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.append("buys", b"1", b"{", headers=(("trace", b"t"),))
        await service.until_applied()
        (first,) = letters(log)
        carried = (*first.to_headers(), ("headrace-dead-letter", b"nowhere"))
        await service.append("buys", b"1", b"{", headers=carried)
        await service.until_applied()
    _, second = letters(log)
    assert second.headers == carried
    assert (second.topic, second.replay_of) == ("buys", None)
    assert second.offset > first.offset


async def test_an_agent_that_is_cancelled_by_what_it_awaits_refuses_its_event() -> None:
    shop, log = declare_shop(partitions=1), SimulatedLog()

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents == 3:
                raise asyncio.CancelledError
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    events = purchases(10)
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold([e for e in events if e.cents != 3])
    assert [letter.offset for letter in letters(log)] == [3]


def test_a_policy_that_cannot_be_followed_is_refused_where_it_is_declared() -> None:
    with pytest.raises(errors.DeclarationError, match="at least one time"):
        Retry(0)
    with pytest.raises(errors.DeclarationError, match="no policy"):
        declare_shop().app.agent(declare_shop().buys, on_error="skip")(None)  # type: ignore[arg-type]
    assert Retry(5, backoff_s=1, backoff_max_s=3).wait_s(3) == 3
    assert DeadLetter() == DeadLetter()
