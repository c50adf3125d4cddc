"""Workers that die at named points, and the one line that holds a service to its fold."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import headrace
from headrace import TopicPartition, errors
from headrace.testing import (
    Compact,
    Crash,
    CrashPoint,
    Outage,
    PromiseBroken,
    Rebalance,
    assert_fold,
    event_sequences,
    harness,
)
from headrace.testing.fold import with_crashes
from headrace.testing.journal import TaskHistory
from tests.testing.till import Balance, Bought, Printed, Returned, balance_of, open_till

CHANGELOG = TopicPartition("till.main.changelog", 0)


async def history_after(*items: object) -> tuple[TaskHistory, int]:
    """What one partition has committed after a story, and how often its worker has started."""
    till = open_till(partitions=1)
    async with harness(till.app, key="who") as h:
        begun = h.workers[0].lives
        await h.run(items)
        assert h.table("balances") == {1: Balance(1_500, 2)}
        assert h.sent(till.receipts) == [Printed(1, 1_000)]
        await h.check()
        return h.log.history(CHANGELOG), h.workers[0].lives - begun


STORY = (Bought(1, 1_000), Bought(1, 500))


@pytest.mark.parametrize("keeps_store", [True, False])
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("at", list(CrashPoint))
async def test_wherever_a_worker_dies_nothing_is_lost_and_nothing_is_done_twice(
    at: CrashPoint, after: int, keeps_store: bool
) -> None:
    _, lives = await history_after(*STORY, Crash(at, after, keeps_store))
    assert lives == (2 if at is CrashPoint.RESTORE else 1)


async def test_a_crash_before_the_commit_leaves_no_unit_and_one_after_it_leaves_one() -> None:
    undisturbed, _ = await history_after(*STORY)
    for at in (CrashPoint.READ, CrashPoint.COMMIT, CrashPoint.COMMITTED, CrashPoint.PUBLISH):
        history, _ = await history_after(*STORY, Crash(at))
        assert history.unit == undisturbed.unit
    till = open_till(partitions=1)
    units = {}
    for at in (CrashPoint.COMMIT, CrashPoint.COMMITTED):
        async with harness(till.app, key="who") as h:
            worker = h.workers[0]
            worker.fate.arm(at, 1)
            dying = h.send(till.buys, Bought(1, 5))
            await dying
            assert worker.fate.is_dead
            units[at] = h.log.history(CHANGELOG).unit
    assert units == {CrashPoint.COMMIT: 0, CrashPoint.COMMITTED: 1}


async def test_a_worker_without_its_disk_is_rebuilt_from_what_compaction_has_left() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        await h.run([Bought(who, 1) for who in range(10)])
        await h.run([Bought(who, 2) for who in range(10)])
        await h.run([Compact(), Crash("quiet", keeps_store=False), Returned(3, 3)])
        assert h.table("balances") == {who: Balance(0 if who == 3 else 3, 2) for who in range(10)}
        await h.check()


async def test_partitions_that_move_under_way_lose_nothing() -> None:
    till = open_till(partitions=4)
    async with harness(till.app, workers=3, key="who") as h:
        for round_ in range(6):
            await h.run([*(Bought(who, 1_000) for who in range(20)), Rebalance()])
            assert h.table("printed") == dict.fromkeys(range(20), round_ + 1)
        await h.check()


async def test_one_line_holds_a_service_to_its_fold() -> None:
    till = open_till()
    events = [kind(index % 5, 100 * index) for index in range(30) for kind in (Bought, Returned)]
    await assert_fold(
        till.app, events=events, key="who", crashes=60, seed=4, fold={till.balances: balance_of}
    )


async def test_two_workers_may_die_in_turn() -> None:
    till = open_till(partitions=3)
    events = [Bought(index % 5, 100 * index) for index in range(40)]
    await assert_fold(till.app, events=events, key="who", crashes=40, workers=2)


async def test_a_model_that_differs_is_told_with_the_row_and_the_seed() -> None:
    till = open_till()
    with pytest.raises(PromiseBroken, match=r"1 rows of balances are not the fold.* 1 is Balance") as found:
        await assert_fold(
            till.app,
            events=[Bought(1, 5)],
            key="who",
            crashes=1,
            seed=77,
            fold={till.balances: lambda rows, event: rows.update({event.who: Balance()})},
        )
    assert any("crashes=1, seed=77" in note for note in found.value.__notes__)


async def test_an_agent_that_remembers_outside_of_tables_does_not_survive_crashes() -> None:
    app = headrace.App("forgetful")
    buys: headrace.Topic[int, Bought] = app.topic("buys", key_type=int, value_type=Bought, partitions=1)
    totals: headrace.Table[int, int] = app.Table("totals", key_type=int, default=int)

    @app.agent(buys)
    async def add(events: headrace.Stream[Bought]) -> None:
        kept = 0
        async for event in events:
            kept += event.cents
            totals[event.who] = kept

    with pytest.raises(PromiseBroken, match=r"is 20 and by the fold|and by the fold of its events 20"):
        await assert_fold(app, events=[Bought(1, 1)] * 20, key="who", crashes=5)


async def told(story: list[Any]) -> list[tuple[Any, ...]]:
    """All that there is in the log after a story, times left out."""
    till = open_till(partitions=1)
    async with harness(till.app, key="who") as h:
        await h.run(story)
        units = [(place, history.unit, history.runs) for place, history in h.log.tasks.items()]
        return [
            *units,
            *(
                (place, record.offset, record.key, record.value)
                for place, records in h.log.records.items()
                for record in records
            ),
        ]


async def test_a_story_told_again_is_the_same_story_to_the_last_offset() -> None:
    events = [Bought(index % 3, 900 + index) for index in range(200)]
    apps = [open_till().app]
    story = with_crashes(events, 50, Random(5), apps=apps)
    assert (
        story
        == with_crashes(events, 50, Random(5), apps=apps)
        != with_crashes(events, 50, Random(6), apps=apps)
    )
    story = [replace(item, app=None) if isinstance(item, Crash) else item for item in story]
    assert await told(story) == await told(story)


SEQUENCES = open_till(partitions=3)


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    event_sequences(
        SEQUENCES.buys,
        SEQUENCES.returns,
        key="who",
        fields={"cents": st.integers(0, 3_000)},
        rebalances=True,
        workers=2,
    )
)
async def test_whatever_sequence_hypothesis_finds_rows_are_their_fold(story: list[object]) -> None:
    async with harness(SEQUENCES.app, workers=2) as h:
        await h.run(story)
        await h.check()


@pytest.mark.parametrize("after", [1, 2, 4, 7, 11])
async def test_a_worker_that_does_not_reach_the_log_goes_on_when_it_does(after: int) -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        await h.run([Bought(1, 1_000), Outage(30.0, after), Bought(1, 500), Outage(0.1)])
        assert h.table("balances") == {1: Balance(1_500, 2)}
        assert h.sent(till.receipts) == [Printed(1, 1_000)]
        assert "Unavailable" in h.workers[0].runtime.figures_of_flow.failures
        await h.check()


async def test_while_the_log_is_out_of_reach_the_world_is_quiet_and_says_so() -> None:
    till = open_till(partitions=1)
    async with harness(till.app, key="who") as h:
        await h.send(till.buys, Bought(1, 1))
        h.workers[0].fate.calls_left = 0
        await h.send(till.buys, Bought(1, 1))
        with pytest.raises(errors.StillRecovering):
            h.table("balances")[1]
        assert (await h.http.get("/balances/1")).status_code == 503
        h.workers[0].fate.calls_left = None
        await h.advance(10)
        assert h.table("balances")[1] == Balance(2, 2)
