"""What is found dead, what is let be, and how a worker is ended."""

import asyncio
import logging
import threading

import pytest

from headrace.settings import Settings
from headrace.vitals import Kind, Trouble, Vitals
from headrace.watchdog import EXIT_STATUS, Watch, Watchdog, bounds_of, stacks

TICK_S = 1.0
BOUNDS_S = dict.fromkeys(Kind, 10.0)


class Hours:
    """Looks every second of a time of its own."""

    def __init__(self, vitals: Vitals, bounds_s: dict[Kind, float] | None = None) -> None:
        self.watch = Watch(vitals, bounds_s or BOUNDS_S, TICK_S)
        self.now = 0.0
        self.watch.look(self.now)

    def pass_(self, seconds: int) -> Trouble | None:
        """What was found first in so many seconds."""
        for _ in range(seconds):
            self.now += TICK_S
            if (trouble := self.watch.look(self.now)) is not None:
                return trouble
        return None


@pytest.mark.parametrize("kind", list(Kind))
def test_a_part_without_a_sign_is_found_at_its_bound_and_not_before(kind: Kind) -> None:
    vitals = Vitals()
    vitals.add(kind, "the part").expect()
    hours = Hours(vitals)
    assert hours.pass_(9) is None
    trouble = hours.pass_(1)
    assert trouble == Trouble(kind, "the part has shown no sign of life for 10 s")


def test_a_part_that_beats_rests_or_gets_on_lives_for_ever() -> None:
    vitals, index = Vitals(), iter(range(1_000))
    beating = vitals.add(Kind.MEMBERSHIP, "beating")
    beating.expect()
    vitals.add(Kind.FETCH, "resting")
    vitals.add(Kind.HANDLER, "getting on").expect(lambda: next(index))
    hours = Hours(vitals)
    for _ in range(20):
        assert hours.pass_(9) is None
        beating.beat()


def test_an_agent_may_await_for_ever_unless_a_bound_is_set() -> None:
    assert bounds_of(Settings())[Kind.HANDLER] == 0.0
    vitals = Vitals()
    vitals.add(Kind.HANDLER, "an agent").expect(lambda: 7)
    assert Hours(vitals, dict(bounds_of(Settings()))).pass_(100_000) is None
    bounded = Hours(vitals, dict(bounds_of(Settings(handler_time_max_s=60.0))))
    assert bounded.pass_(59) is None
    trouble = bounded.pass_(1)
    assert trouble is not None
    assert trouble.kind is Kind.HANDLER


def test_while_the_loop_stands_still_nobody_else_is_blamed() -> None:
    vitals = Vitals()
    loop = vitals.add(Kind.LOOP, "the loop")
    loop.expect()
    vitals.add(Kind.BROKER, "the cluster").expect()
    hours = Hours(vitals, {**BOUNDS_S, Kind.LOOP: 20.0})
    trouble = hours.pass_(25)
    assert trouble is not None
    assert trouble.kind is Kind.LOOP

    # And what is silent because no broker answers is told by that.
    vitals = Vitals()
    for kind in (Kind.FETCH, Kind.MEMBERSHIP, Kind.BROKER):
        vitals.add(kind, kind.value).expect()
    trouble = Hours(vitals).pass_(11)
    assert trouble is not None
    assert trouble.kind is Kind.BROKER


def test_a_process_that_was_stopped_finds_its_parts_as_young_as_it_left_them() -> None:
    vitals = Vitals()
    vitals.add(Kind.BROKER, "the cluster").expect()
    hours = Hours(vitals)
    assert hours.pass_(7) is None
    hours.now += 3_600
    assert hours.pass_(1) is None


async def test_a_task_that_must_run_is_missed_at_once_unless_it_was_let_go() -> None:
    vitals = Vitals()
    hours = Hours(vitals)
    for is_let_go in (True, False):
        task = asyncio.create_task(asyncio.Event().wait(), name="assignments")
        vital = vitals.must_run(task, Kind.MEMBERSHIP)  # type: ignore[arg-type]  # it never ends by itself
        assert hours.pass_(1_000) is None
        if is_let_go:
            vitals.remove(vital)
        task.cancel()
        await asyncio.wait({task})
    assert hours.pass_(1) == Trouble(Kind.MEMBERSHIP, "task assignments was cancelled")


def test_the_place_in_the_group_is_given_the_time_that_a_join_may_take() -> None:
    assert bounds_of(Settings(session_timeout_s=45.0))[Kind.MEMBERSHIP] == 90.0
    assert bounds_of(Settings(membership_silence_max_s=0.0))[Kind.MEMBERSHIP] == 0.0


class Ended:
    """Stands for the end of the process."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.has_come = threading.Event()

    def __call__(self, status: int) -> None:
        self.status = status
        self.has_come.set()


async def test_a_dead_part_ends_the_process_with_reason_and_stacks_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vitals, ended = Vitals(), Ended()
    settings = Settings(fetch_silence_max_s=0.25, watchdog_grace_s=0.01, loop_silence_max_s=0.0)
    watchdog = Watchdog(vitals, settings, exit_=ended)
    waiting = asyncio.create_task(asyncio.Event().wait(), name="fetch main/3")
    vitals.add(Kind.FETCH, "the reader of sales/3").expect()
    watchdog.start()
    with caplog.at_level(logging.CRITICAL):
        assert await asyncio.to_thread(ended.has_come.wait, 10)
    watchdog.stop()
    waiting.cancel()
    assert ended.status == EXIT_STATUS
    assert vitals.trouble is not None
    assert vitals.trouble.kind is Kind.FETCH
    assert "dead fetch: the reader of sales/3 has shown no sign of life" in caplog.text
    assert "Task fetch main/3:" in caplog.text
    assert "Thread MainThread:" in caplog.text


async def test_a_log_that_blocks_does_not_keep_a_dead_worker() -> None:
    vitals, ended, released = Vitals(), Ended(), threading.Event()

    class Blocked(logging.Handler):
        """As a full pipe."""

        def emit(self, record: logging.LogRecord) -> None:
            released.wait(20)

    blocked = Blocked()
    logging.getLogger("headrace.watchdog").addHandler(blocked)
    watchdog = Watchdog(
        vitals, Settings(fetch_silence_max_s=0.25, watchdog_grace_s=0.01, loop_silence_max_s=0.0), exit_=ended
    )
    vitals.add(Kind.FETCH, "the reader").expect()
    watchdog.start()
    try:
        assert await asyncio.to_thread(ended.has_come.wait, 10)
    finally:
        watchdog.stop()
        released.set()
        logging.getLogger("headrace.watchdog").removeHandler(blocked)


async def test_the_stacks_tell_what_a_task_waits_for() -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer(), name="agent earn main/0")
    await asyncio.sleep(0)
    told = stacks(asyncio.get_running_loop())
    task.cancel()
    of_task = told.partition("Task agent earn main/0:")[2].partition("\nTask ")[0]
    assert of_task.index("await inner()") < of_task.index("await asyncio.Event().wait()")
