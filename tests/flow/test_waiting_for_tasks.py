"""A read that waits for a task hears of its end at once, whatever ends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

import headrace
from headrace import DeadLetter, Stop
from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.flow.policy import Policy
from headrace.testing import Crash, harness
from headrace.testing.harness import Harness

PLACE = TopicPartition("buys", 0)


class Till:
    """A service whose agent waits to be let go, and refuses nothing but the value 13."""

    def __init__(self, on_error: Policy) -> None:
        self.app = headrace.App("till")
        self.buys: headrace.Topic[int, int] = self.app.topic(
            "buys", key_type=int, value_type=int, partitions=1
        )
        self.spent: headrace.Table[int, int] = self.app.Table("spent", key_type=int, default=int)
        self.app.serve(self.spent, "/spent")

        @self.app.agent(self.buys, on_error=on_error)
        async def add_up(events: headrace.Stream[int]) -> None:
            async for event in events.events():
                if event.value == 13:
                    raise ValueError("unlucky")
                self.spent[event.key] += event.value


@asynccontextmanager
async def waiting(h: Harness, offset_next: int) -> AsyncIterator["asyncio.Task[httpx.Response]"]:
    """A read that waits for an offset while the worker stands still; it goes on in the block."""
    (worker,) = h.workers
    text = Token.of(Position({PLACE: offset_next}), worker.runtime.catalog).text()
    asking = asyncio.create_task(h.http.get("/spent/1", headers={"Headrace-Position": text}), name="request")
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        yield asking
    finally:
        asking.cancel()
        await asyncio.wait({asking})


async def test_an_event_that_stops_the_partition_ends_the_wait_for_what_lies_behind_it() -> None:
    till = Till(Stop())
    async with harness(till.app) as h:
        await h.send(till.buys, 1, key=1)
        (worker,) = h.workers
        worker.stand_still()
        await h.send(till.buys, 13, key=1)
        async with waiting(h, h.log.partition(PLACE).end - 1) as asking:
            assert not asking.done()
            worker.go_on()
            answer = await asking
        assert (answer.status_code, answer.json()["error"]) == (503, "TaskFailed")
        assert "HandlerError" in answer.json()["detail"]
        assert "unlucky" not in answer.text
        assert h.clock.passed_s == 0.0
        assert (await h.http.get("/spent/1")).json()["error"] == "PartitionStopped"


async def test_a_dead_letter_is_progress() -> None:
    till = Till(DeadLetter())
    async with harness(till.app) as h:
        await h.send(till.buys, 1, key=1)
        (worker,) = h.workers
        worker.stand_still()
        await h.send(till.buys, 13, key=1)
        async with waiting(h, h.log.partition(PLACE).end - 1) as asking:
            assert not asking.done()
            worker.go_on()
            answer = await asking
        assert (answer.status_code, answer.json()) == (200, 1)
        assert len(h.dead_letters()) == 1


async def test_a_worker_that_stops_in_peace_sends_its_waiters_away() -> None:
    till = Till(DeadLetter())
    async with harness(till.app) as h:
        await h.send(till.buys, 1, key=1)
        await h.join()
        (worker, _) = h.workers
        view = worker.runtime.view("main", 0)
        assert view is not None, "the first worker keeps the only partition"
        waiter = view.waiter({PLACE: 2**40})
        await h.leave(worker=0)
        with pytest.raises(headrace.errors.NotOwner):
            await waiter


async def test_a_task_that_is_fenced_ends_the_wait_with_its_error() -> None:
    till = Till(DeadLetter())
    async with harness(till.app) as h:
        await h.send(till.buys, 1, key=1)
        (worker,) = h.workers
        view = worker.runtime.view("main", 0)
        assert view is not None
        waiter = view.waiter({PLACE: 2**40})
        h.log.begin_epoch("till-main-0")
        await h.send(till.buys, 2, key=1)
        with pytest.raises(headrace.errors.TaskFailed, match="Fenced"):
            await waiter
        await h.advance(5.0)
        assert (await h.http.get("/spent/1")).json() == 3
        await h.run([Crash()])
