"""Bytes that are no event, and agents that refuse what they are given: dead letters, retries, stops."""

import pytest

import headrace
from headrace.errors import PartitionStopped
from headrace.flow.policy import Policy
from headrace.testing import Crash, Poison, Rebalance, assert_fold, harness
from tests.testing.till import Balance, Bought, Printed, Returned, balance_of, open_till


def open_picky(on_error: Policy) -> tuple[headrace.App, headrace.Topic[int, Bought], list[int]]:
    """A service whose agent refuses purchases of nothing; the list tells how often each was tried."""
    app = headrace.App("picky")
    buys: headrace.Topic[int, Bought] = app.topic("buys", key_type=int, value_type=Bought, partitions=1)
    totals = app.Table("totals", key_type=int, default=int)
    tried: list[int] = []

    @app.agent(buys, on_error=on_error)
    async def add(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            tried.append(event.cents)
            if event.cents == 0:
                raise ValueError("a purchase of nothing")
            totals[event.who] += event.cents

    return app, buys, tried


async def test_bytes_that_are_no_event_are_a_dead_letter_and_the_others_are_folded() -> None:
    till = open_till(partitions=1)
    async with harness(till.app, key="who") as h:
        await h.run([Bought(1, 5), Poison(b"no event", key=b"1"), Bought(1, 6)])
        (letter,) = h.dead_letters()
        assert (letter.key, letter.value, letter.topic, letter.offset) == (b"1", b"no event", "buys", 1)
        assert letter.error == "DecodeError"
        assert h.table("balances") == {1: Balance(11, 2)}
        await h.check()


async def test_what_an_agent_refuses_is_a_dead_letter_of_this_agent() -> None:
    app, buys, _ = open_picky(headrace.DeadLetter())
    async with harness(app, key="who") as h:
        await h.send(buys, Bought(1, 0))
        await h.send(buys, Bought(1, 7))
        (letter,) = h.dead_letters()
        assert letter.agent.endswith("add")
        assert "a purchase of nothing" in letter.reason
        assert h.table("totals") == {1: 7}


async def test_retries_happen_when_the_test_lets_time_pass() -> None:
    app, buys, tried = open_picky(headrace.Retry(2, backoff_s=10.0))
    async with harness(app, key="who") as h:
        await h.send(buys, Bought(1, 0))
        before = tried.count(0)
        await h.advance(9.9)
        assert (tried.count(0), h.dead_letters()) == (before, [])
        await h.advance(0.1)
        assert (tried.count(0), h.dead_letters()) == (before + 1, [])
        await h.send(buys, Bought(1, 7))
        assert h.table("totals") == {}
        await h.advance(20.0)
        assert (tried.count(0), len(h.dead_letters())) == (before + 2, 1)
        assert h.table("totals") == {1: 7}


async def test_a_partition_that_stops_says_why_and_holds_nothing_up() -> None:
    app, buys, _ = open_picky(headrace.Stop())
    async with harness(app, key="who") as h:
        await h.send(buys, Bought(1, 0))
        with pytest.raises(PartitionStopped, match="stands still: HandlerError"):
            h.table("totals")[1]


async def test_poison_under_way_does_no_harm_wherever_workers_die() -> None:
    till = open_till()
    story: list[object] = []
    for number in range(20):
        story += [Bought(number % 3, 100 * number), Poison(b"%d" % number, topic="returns", key=b"2")]
        story += [Returned(number % 3, number)]
    await assert_fold(till.app, events=story, key="who", crashes=40, seed=8, fold={till.balances: balance_of})


async def test_dead_letters_are_written_once_wherever_workers_die() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        for number, at in enumerate(("read", "commit", "committed", "publish", "apply"), 1):
            await h.run([Poison(b"bad", key=b"1"), Bought(1, 1_000), Crash(at), Rebalance()])
            assert len(h.dead_letters()) == number
            assert h.sent(till.receipts) == [Printed(1, 1_000)] * number
        await h.check()
