"""The loop is shared in turns: the more are at work, the shorter each holds it."""

import asyncio
import time

import pytest

from headrace import turns
from headrace.turns import TURN_S, Turns, share_s


class Stopwatch:
    """The time that `perf_counter` tells."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    monkeypatch.setattr(time, "perf_counter", stopwatch)
    monkeypatch.setattr(turns, "_at_work", set())
    return stopwatch


def test_who_is_alone_at_work_holds_the_loop_for_the_whole_turn(watch: Stopwatch) -> None:
    with Turns() as work:
        watch.now += TURN_S * 0.9
        assert not work.is_due
        watch.now += TURN_S * 0.2
        assert work.is_due


def test_those_at_work_share_a_turn(watch: Stopwatch) -> None:
    with Turns(), Turns() as work:
        watch.now += TURN_S * 0.6
        assert work.is_due
    assert share_s() == TURN_S


def test_many_at_work_still_get_something_done(watch: Stopwatch) -> None:
    crowd = [Turns() for _ in range(64)]
    for each in crowd:
        each.begin()
    assert 0.0002 <= share_s() <= TURN_S / 2
    for each in crowd:
        each.end()
        each.end()
    assert share_s() == TURN_S


async def test_others_run_when_a_turn_is_given(watch: Stopwatch) -> None:
    told: list[str] = []
    asyncio.get_running_loop().call_soon(told.append, "other")
    with Turns() as work:
        watch.now += TURN_S
        assert work.is_due
        await work.give()
        assert told == ["other"]
        assert not work.is_due


async def test_who_is_cancelled_at_work_takes_no_share_any_more(watch: Stopwatch) -> None:
    async def work_on() -> None:
        with Turns():
            await asyncio.Event().wait()

    task = asyncio.create_task(work_on(), name="work")
    await asyncio.sleep(0)
    assert share_s() == TURN_S
    with Turns():
        assert share_s() < TURN_S
    task.cancel()
    await asyncio.wait({task})
    with Turns():
        assert share_s() == TURN_S
