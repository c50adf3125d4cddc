"""Requests with an Idempotency-Key across workers, failed commits and time."""

import asyncio
import random
from typing import Any

import pytest

from headrace.errors import CommitUnknown, Fenced, RecordTooLarge, Unavailable
from headrace.flow.requests.answer import KEPT_MS, PARTITIONS
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.testing.virtual_clock import VirtualClock
from tests.flow.mortal import LastingEngine
from tests.http.interrupted import InterruptedLog
from tests.http.till import ONE, TWO, Till, asking, facts, key, post_again, tombstones, until_settled, worker
from tests.service import Service, running


@pytest.fixture
async def till() -> Till:
    return Till()


def both(cluster: SimulatedCluster) -> tuple[SimulatedLog, SimulatedLog]:
    return SimulatedLog(cluster), SimulatedLog(cluster)


async def test_whoever_is_asked_the_owner_of_the_key_answers(till: Till) -> None:
    here, there = both(SimulatedCluster())
    async with running(till.app, log=here) as one, running(till.app, log=there) as two:
        for each in (one, two):
            await until_settled(each.runtime, PARTITIONS // 2)
        async with asking(one.runtime) as first, asking(two.runtime) as second:
            for number in range(20):
                answers = [
                    await http.post("/buys", json=ONE, headers=key(str(number))) for http in (first, second)
                ]
                assert facts(answers[0]) == facts(answers[1])
                assert answers[0].status_code == 201
                assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true"]
        shares = [each.runtime.figures_of_flow.requests.recorded for each in (one, two)]
        assert sum(shares) == till.handled == 20
        assert min(shares) > 0
    assert len(await till.bought(here)) == 20


async def test_another_worker_repeats_what_the_one_before_it_answered(till: Till) -> None:
    here, there = both(SimulatedCluster())
    firsts: dict[str, Any] = {}
    async with worker(till, here) as (_, http):
        for number in range(20):
            firsts[str(number)] = facts(await http.post("/buys", json=ONE, headers=key(str(number))))
    async with worker(till, there) as (_, http):
        for name, first in firsts.items():
            assert facts(await http.post("/buys", json=ONE, headers=key(name))) == first
    assert len(await till.bought(there)) == 20


async def test_a_worker_that_stood_still_cannot_commit_a_second_time(till: Till) -> None:
    """As after SIGSTOP: the group has given its partitions away, and it does not know."""
    cluster = SimulatedCluster()
    here, there = both(cluster)
    async with running(till.app, log=here) as stalled, asking(stalled.runtime) as first:
        till.may_answer.clear()
        held = post_again(first)
        await till.arrived.wait()
        for partition in range(PARTITIONS):
            # What a new owner does before anything else.
            await there.writer(f"till-requests-{partition}")
        till.may_answer.set()
        answer = await held
        assert (answer.status_code, answer.json()["error"]) == (503, "Fenced")
        assert "Retry-After" in answer.headers
        assert await till.bought(here) == []
        # The group says that it is the owner still, so that it takes the partition over again.
        await until_settled(stalled.runtime, PARTITIONS)
        assert (await first.post("/buys", json=ONE, headers=key())).status_code == 201
    assert await till.bought(there) == [100]


# --- commits that fail


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_repeat_after_an_unknown_outcome_is_told_the_truth(till: Till, takes_effect: bool) -> None:
    log = InterruptedLog()
    async with worker(till, log) as (service, http):
        log.error, log.takes_effect = CommitUnknown("no answer"), takes_effect
        unknown = await http.post("/buys", json=ONE, headers=key())
        assert (unknown.status_code, unknown.json()["error"]) == (503, "CommitUnknown")
        assert "Retry-After" in unknown.headers
        await until_settled(service.runtime, PARTITIONS)
        again = await http.post("/buys", json=ONE, headers=key())
    assert again.status_code == 201
    assert again.headers.get("Idempotent-Replayed") == ("true" if takes_effect else None)
    assert again.headers["Headrace-Position"]
    assert await till.bought(log) == [100]


async def test_who_waited_for_an_unknown_outcome_is_told_so_and_not_handled(till: Till) -> None:
    log = InterruptedLog()
    async with worker(till, log) as (_, http):
        till.may_answer.clear()
        first = post_again(http)
        await till.arrived.wait()
        again = post_again(http)
        log.error = CommitUnknown("no answer")
        till.may_answer.set()
        assert [(await post).status_code for post in (first, again)] == [503, 503]
    assert till.handled == 1


async def test_a_record_that_is_refused_stops_nobody_else(till: Till) -> None:
    log = InterruptedLog()
    async with worker(till, log) as (service, http):
        log.error, log.takes_effect = RecordTooLarge("too large"), False
        assert (await http.post("/buys", json=ONE, headers=key())).status_code == 413
        await until_settled(service.runtime, PARTITIONS)
        assert (await http.post("/buys", json=TWO, headers=key("other"))).status_code == 201
    assert await till.bought(log) == [200]


async def test_a_client_that_goes_away_leaves_an_answer_behind(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (service, http):
        posting = post_again(http)
        await till.arrived.wait()
        # It has sent, and its commit is on its way or about to be: both end in one event.
        posting.cancel()
        await asyncio.wait({posting})
        again = await http.post("/buys", json=ONE, headers=key())
        assert again.status_code == 201
        assert service.runtime.figures_of_flow.requests.recorded == 1
    assert await till.bought(log) == [100]


async def test_a_disk_that_fails_behind_a_commit_loses_no_answer(till: Till) -> None:
    log, engine = SimulatedLog(), LastingEngine()
    async with worker(till, log, engine) as (service, http):
        engine.fail_after(0)
        unknown = await http.post("/buys", json=ONE, headers=key())
        assert (unknown.status_code, unknown.json()["error"]) == (503, "CommitUnknown")
        await until_settled(service.runtime, PARTITIONS)
        again = await http.post("/buys", json=ONE, headers=key())
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert await till.bought(log) == [100]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_fails_every_request_is_handled_once_and_repeated_as_it_was(
    till: Till, seed: int
) -> None:
    """Two workers; commits fail or are unknown, owners are fenced, one worker is replaced half-way."""
    fate, cluster = random.Random(seed), SimulatedCluster()
    logs = [InterruptedLog(cluster), InterruptedLog(cluster), InterruptedLog(cluster)]
    firsts: dict[str, Any] = {}
    async with running(till.app, log=logs[0]) as one:
        async with running(till.app, log=logs[1]) as two:
            for number in range(25):
                firsts[str(number)] = await _persist([one, two], logs, str(number), fate)
        async with running(till.app, log=logs[2]) as three:
            for name, first in firsts.items():
                assert await _persist([one, three], logs, name, fate) == first
    assert len(await till.bought(logs[0])) == 25


async def _persist(workers: list[Service], logs: list[InterruptedLog], name: str, fate: random.Random) -> Any:
    """Send a request to anybody until it is answered, while commits fail and owners are fenced."""
    for _ in range(10_000):
        log = fate.choice(logs)
        log.error = fate.choice(FAILURES)
        log.takes_effect = isinstance(log.error, CommitUnknown) and fate.random() < 0.5
        if fate.random() < 0.1:
            await log.log.writer(f"till-requests-{fate.randrange(PARTITIONS)}")
        async with asking(fate.choice(workers).runtime) as http:
            answer = await http.post("/buys", json=ONE, headers=key(name))
        if answer.status_code == 201:
            return facts(answer)
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0)
    raise AssertionError(f"{name} was never answered")


class SetClock(VirtualClock):
    """A clock whose wall time somebody sets; what has passed is counted on."""

    set_by_s = 0.0

    def time(self) -> float:
        """Seconds since the epoch, as they were set."""
        return super().time() + self.set_by_s


FAILURES = (None, None, CommitUnknown("no answer"), Unavailable("cut"), Fenced("taken over"))


# --- time


async def test_after_a_day_a_key_is_free_again_and_its_answer_forgotten(till: Till) -> None:
    log, clock, engine = SimulatedLog(), VirtualClock(), LastingEngine()
    async with worker(till, log, engine, clock=clock) as (service, http):
        await http.post("/buys", json=ONE, headers=key())
        clock.move_to(KEPT_MS / 1000 - 1)
        assert (await http.post("/buys", json=ONE, headers=key())).headers["Idempotent-Replayed"]
        clock.move_to(KEPT_MS / 1000)
        fresh = await http.post("/buys", json=ONE, headers=key())
        assert (fresh.status_code, till.handled) == (201, 2)
        assert (await http.post("/buys", json=ONE, headers=key())).headers["Idempotent-Replayed"]
        await http.post("/buys", json=ONE, headers=key("old"))
        # Rows go with the look that comes every hour; the log is told by tombstones.
        clock.move_to(2 * KEPT_MS / 1000)
        await tombstones(log, 2)
        partitions = log.cluster.topics["till.requests"].partitions
        log.cluster.compact("till.requests")
        assert [value for partition in partitions for value in partition.values] == [None, None]
        # What is committed behind a tombstone finds its row gone.
        for name in ("k", "old"):
            log.cluster.compact("till.requests", purges_tombstones=True)
            assert (
                "Idempotent-Replayed" not in (await http.post("/buys", json=ONE, headers=key(name))).headers
            )
        assert sum(view.rows_estimate() for view in service.runtime.desks()) == 2


async def test_a_clock_that_is_set_forwards_cuts_no_answer_short(till: Till) -> None:
    log, clock = SimulatedLog(), SetClock()
    async with worker(till, log, clock=clock) as (_, http):
        first = await http.post("/buys", json=ONE, headers=key())
        clock.set_by_s = 30 * KEPT_MS / 1000
        assert facts(await http.post("/buys", json=ONE, headers=key())) == facts(first)
        await http.post("/buys", json=ONE, headers=key("later"))
        # By now the look that comes every hour has been there, too.
        clock.move_to(KEPT_MS / 1000 - 1)
        assert facts(await http.post("/buys", json=ONE, headers=key())) == facts(first)
        clock.move_to(KEPT_MS / 1000)
        assert "Idempotent-Replayed" not in (await http.post("/buys", json=ONE, headers=key())).headers
        assert (await http.post("/buys", json=ONE, headers=key("later"))).headers["Idempotent-Replayed"]
    assert till.handled == 3


async def test_what_was_answered_while_a_clock_was_set_back_is_known_when_it_is_right_again(
    till: Till,
) -> None:
    log, clock, engine = SimulatedLog(), SetClock(), LastingEngine()
    async with worker(till, log, engine, clock=clock) as (service, http):
        clock.set_by_s = -2 * KEPT_MS / 1000
        first = await http.post("/buys", json=ONE, headers=key())
        await service.crash()
    clock.set_by_s = 0.0
    async with worker(till, log, engine, clock=clock) as (_, http):
        assert facts(await http.post("/buys", json=ONE, headers=key())) == facts(first)
    assert till.handled == 1
