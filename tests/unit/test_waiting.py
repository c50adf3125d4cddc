"""Waiters are answered by what they wait for, in order, at once, and cost nothing meanwhile."""

import asyncio
import random
import tracemalloc
from itertools import pairwise

import pytest

from headrace.errors import Fenced, NotOwner, PartitionStopped, StillRecovering, TaskFailed
from headrace.events.position import Position, TopicPartition
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import PartitionView, ViewState
from headrace.tables.waiting import Waiter, Waiters

BUYS, COUPONS = TopicPartition("buys", 0), TopicPartition("coupons", 0)
START = Position({BUYS: 0, COUPONS: 0})


def serving(position: Position = START) -> PartitionView:
    view = PartitionView("main", 0)
    view.serve(MemoryEngine().open("main", 0), position)
    return view


def answered(*waiters: Waiter) -> list[bool]:
    return [waiter.done() for waiter in waiters]


async def test_a_unit_answers_in_the_same_turn_whoever_waited_for_no_more() -> None:
    view = serving()
    one, two, three = (view.waiter({BUYS: offset}) for offset in (1, 2, 3))
    view.publish({b"t\0a": b"1"}, Position({BUYS: 2, COUPONS: 0}))
    assert answered(one, two, three) == [True, True, False]


async def test_what_is_contained_already_is_not_waited_for() -> None:
    view = serving(Position({BUYS: 5, COUPONS: 2}))
    assert answered(view.waiter({BUYS: 5, COUPONS: 2}), view.waiter({})) == [True, True]
    await view.reached({BUYS: 4})


async def test_progress_over_no_events_answers_too() -> None:
    view = serving()
    waiter = view.waiter({BUYS: 7})
    view.advance(Position({BUYS: 7, COUPONS: 0}))
    assert await waiter


async def test_all_that_is_missing_is_waited_for_whichever_comes_first() -> None:
    for first, then in ((BUYS, COUPONS), (COUPONS, BUYS)):
        view = serving()
        waiter = view.waiter({BUYS: 3, COUPONS: 4})
        view.advance(Position({**START, first: 9}))
        assert not waiter.done()
        view.advance(Position({first: 9, then: 9}))
        assert waiter.done()


async def test_waiters_are_answered_in_the_order_of_what_they_wait_for_and_then_of_coming() -> None:
    view = serving()
    order: list[tuple[int, int]] = []
    wanted = [(random.Random(1).randrange(1, 40), turn) for turn in range(400)]

    async def wait(offset: int, turn: int) -> None:
        await view.reached({BUYS: offset})
        order.append((offset, turn))

    async with asyncio.TaskGroup() as waiting:
        for offset, turn in wanted:
            waiting.create_task(wait(offset, turn), name="reader")
        await asyncio.sleep(0)
        view.advance(Position({BUYS: 40, COUPONS: 0}))
    assert order == sorted(wanted)


async def test_a_crowd_is_answered_in_several_calls_with_others_in_between() -> None:
    view = serving()
    waiters = [view.waiter({BUYS: 1}) for _ in range(2_000)]
    view.advance(Position({BUYS: 1, COUPONS: 0}))
    after = [sum(answered(*waiters))]
    while after[-1] < len(waiters):
        await asyncio.sleep(0)
        after.append(sum(answered(*waiters)))
    assert max(b - a for a, b in pairwise(after)) <= 256
    assert len(after) <= 10


async def test_progress_while_a_crowd_is_being_answered_answers_more_of_them() -> None:
    view = serving()
    waiters = [view.waiter({BUYS: 1 + index % 2}) for index in range(1_000)]
    view.advance(Position({BUYS: 1, COUPONS: 0}))
    view.advance(Position({BUYS: 2, COUPONS: 0}))
    async with asyncio.timeout(5):
        await asyncio.gather(*waiters)


@pytest.mark.parametrize(
    ("state", "error"), [(ViewState.RESTORING, StillRecovering), (ViewState.CLOSED, NotOwner)]
)
async def test_a_partition_that_leaves_tells_whoever_waits_at_once(
    state: ViewState, error: type[Exception]
) -> None:
    view = serving()
    waiter = view.waiter({BUYS: 1})
    view.close(state)
    with pytest.raises(error):
        await waiter
    with pytest.raises(error):
        view.waiter({BUYS: 0})


async def test_a_waiter_gets_the_failure_of_the_task_it_waits_for() -> None:
    view = serving()
    waiters = [view.waiter({BUYS: 1}), view.waiter({COUPONS: 1})]
    failure = Fenced("another worker took over")
    view.close(failure=failure)
    view.close()
    for waiter in waiters:
        with pytest.raises(TaskFailed, match="Fenced") as caught:
            await waiter
        assert caught.value.failure is failure


async def test_a_partition_that_stands_still_tells_whoever_waits() -> None:
    view = serving()
    waiter = view.waiter({BUYS: 1})
    view.stop(Fenced("no matter what"))
    with pytest.raises(PartitionStopped):
        await waiter


async def test_a_crowd_is_refused_in_several_calls() -> None:
    view = serving()
    waiters = [view.waiter({BUYS: 1}) for _ in range(1_000)]
    view.close()
    assert sum(answered(*waiters)) < 300
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NotOwner}


async def test_whoever_stops_waiting_is_forgotten() -> None:
    waiters = Waiters()
    patient = [waiters.add({BUYS: 2**62}, START) for _ in range(10)]
    for _ in range(5_000):
        waiters.add({BUYS: 2**62}, START).cancel()
    assert len(waiters) < 200
    waiters.moved(Position({BUYS: 2**62}))
    assert all(answered(*patient))


async def test_ten_thousand_idle_waiters_take_bounded_memory_and_are_not_touched_by_what_is_not_theirs() -> (
    None
):
    view = serving()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        waiters = [view.waiter({BUYS: 1_000_000 + index}) for index in range(10_000)]
        held, _ = tracemalloc.get_traced_memory()
        for offset in range(1, 1_000):
            view.advance(Position({BUYS: offset, COUPONS: offset}))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (held - before) / len(waiters) < 1_000, "bytes for each waiter"
    assert after - held < 10_000, "progress that answers nobody leaves nothing behind"
    assert not any(answered(*waiters))
    view.advance(Position({BUYS: 1_000_004, COUPONS: 0}))
    assert sum(answered(*waiters)) == 5
