"""Hundreds of rebalances in memory: whatever the order of things, each event is handled once, in order."""

import random

import pytest

from headrace.flow.crew import TaskKey
from headrace.flow.keeper import Keeper
from headrace.log.simulated.log import SimulatedLog
from tests.flow.fleet import Fleet, ShakyCluster, SimulatedWorker
from tests.process.apps.relay import app
from tests.process.load import Load

REBALANCES = 40
WORKERS = 4


@pytest.mark.parametrize("seed", range(10))
async def test_workers_that_come_go_die_and_sleep_handle_each_event_once_in_order(seed: int) -> None:
    fate = random.Random(seed)
    cluster = ShakyCluster(fate)
    fleet = await Fleet.open(app, cluster, WORKERS)
    log = SimulatedLog(cluster)
    load = Load(await log.writer("numbers"))
    fleet.workers[0].start()
    while cluster.group(fleet.app_id).generation < REBALANCES:
        for _ in range(fate.randrange(4)):
            await load.append()
        await act(fleet, fate)
        if fate.random() < 0.3:
            for worker in fleet.running():
                worker.wake()
            await fleet.until_settled(load.ends)
    for worker in fleet.running():
        worker.wake()
    await fleet.until_settled(load.ends)
    for worker in fleet.running():
        await worker.leave()
    await load.check_log(log)


async def test_from_1_to_4_to_2_workers_what_stays_is_let_be_and_what_moves_is_taken_over_once() -> None:
    cluster = ShakyCluster(random.Random(1))
    fleet = await Fleet.open(app, cluster, WORKERS)
    load = Load(await SimulatedLog(cluster).writer("numbers"))
    moved = 0
    for step, worker in enumerate([*fleet.workers, *fleet.workers[:2]]):
        before = {(each.instance, key): keeper for each, key, keeper in keepers(fleet)}
        if step < WORKERS:
            worker.start()
        else:
            await worker.leave()
        for _ in range(20):
            await load.append()
        await fleet.until_settled(load.ends)
        for each, key, keeper in keepers(fleet):
            moved += before.get((each.instance, key)) is not keeper
        assert sum(each.figures.takeovers for each in fleet.workers) == moved
    sizes = sorted(len(worker.crew.keepers) for worker in fleet.running())
    assert sizes == [4, 4]
    # 8 to begin with; 4, 2 and 2 to those who come; 2 and then 3 from those who go.
    assert moved == 21
    for worker in fleet.running():
        await worker.leave()
    await load.check_log(SimulatedLog(cluster))


@pytest.mark.parametrize("seed", range(5))
async def test_a_worker_that_sleeps_through_a_rebalance_never_fences_its_heir(seed: int) -> None:
    cluster = ShakyCluster(random.Random(seed))
    fleet = await Fleet.open(app, cluster, 2)
    load = Load(await SimulatedLog(cluster).writer("numbers"))
    sleeper, heir = fleet.workers
    for worker in fleet.workers:
        worker.start()
        await load.append()
        await fleet.until_settled(load.ends)
    assert heir.figures.failures == {}
    takeovers = sleeper.figures.takeovers
    sleeper.fall_asleep()
    for _ in range(10):
        await load.append()
    await fleet.until_inherited(heir, load.ends)
    await fleet.until(lambda: sum(sleeper.figures.failures.values()) >= 4)
    assert sleeper.figures.failures == {"Fenced": 4}
    assert sleeper.figures.takeovers == takeovers
    assert heir.figures.failures == {}
    sleeper.wake()
    await load.append()
    await fleet.until_settled(load.ends)
    for worker in fleet.running():
        await worker.leave()
    await load.check_log(SimulatedLog(cluster))


def keepers(fleet: Fleet) -> list[tuple[SimulatedWorker, TaskKey, Keeper]]:
    """Every keeper, and whose it is."""
    return [(each, key, keeper) for each in fleet.running() for key, keeper in each.crew.keepers.items()]


async def act(fleet: Fleet, fate: random.Random) -> None:
    """One thing that happens to a worker."""
    resting = [worker for worker in fleet.workers if not worker.is_running]
    awake = fleet.awake()
    asleep = [worker for worker in fleet.running() if worker.is_asleep]
    what = fate.choice(("join", "join", "leave", "die", "sleep", "wake"))
    if resting and (what == "join" or not awake):
        worker = fate.choice(resting)
        if fate.random() < 0.3:
            worker.lose_disk()
        worker.start()
    elif what == "wake" and asleep:
        fate.choice(asleep).wake()
    elif len(awake) > 1:
        worker = fate.choice(awake)
        if what == "leave":
            await worker.leave()
        elif what == "die":
            await worker.die()
        elif what == "sleep":
            worker.fall_asleep()
