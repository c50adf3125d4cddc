"""Workers that come, go and die under load: tasks move, nothing is lost, doubled or reordered."""

import asyncio
import json
import logging
import os
import random
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from headrace.log.connect import connect
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.load import PARTITIONS, Load, Shares, moves_ms
from tests.process.workers import Worker, breath, until_covered

logger = logging.getLogger(__name__)

REBALANCES = int(os.environ.get("HEADRACE_TEST_REBALANCES", "12"))
PAUSE_MS_MAX = 300 if "PYTEST_XDIST_WORKER" in os.environ else 100
"""All but one in a hundred pauses are shorter: beside other tests, and alone on the machine (`-n 0`)."""
STALL_MS_MAX = 1_000
"""After a kill a rebalance takes the session time-out, 2 s: nothing that stays may wait for its end."""
_SETTLE_TIMEOUT_S = 30.0
_ACTIONS = ("join", "join", "stop", "kill")


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_rebalances_with_1_to_4_workers_under_load_lose_double_and_reorder_nothing(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    seed = int(os.environ.get("REBALANCE_SEED", "20261123"))
    address = f"kafka://{own_broker.address}"
    environment = {
        "HEADRACE_LOG": address,
        "HEADRACE_SESSION_TIMEOUT_S": "2",
        "HEADRACE_TRANSACTION_TIMEOUT_S": "3",
    }
    # Two come back under their names; two others leave when they stop.
    crew = [
        Worker("tests.process.apps.relay", f"w{number}", tmp_path, environment, is_static=number < 2)
        for number in range(4)
    ]
    log = connect(Settings(log=address))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0) as client:
            writer = await log.writer("numbers")
            load = Load(writer)
            await crew[0].start()
            await crew[0].until_ready()
            appending = asyncio.create_task(load.run(), name="load")
            await _shuffle(client, crew, random.Random(seed))
            appending.cancel()
            await asyncio.wait({appending})
            await writer.close()
            staying = [worker for worker in crew if worker.is_running]
            await until_covered(client, staying, load.ends)
            await load.check_reads(client, staying)
            await _check_tables(staying[0])
            for worker in staying:
                assert await worker.terminate() == 0, worker.tail()
        commits = await load.check_log(log)
    finally:
        await log.close()
        for worker in crew:
            if worker.is_running:
                await worker.kill()
    pauses, moves = load.pauses(commits, Shares(crew)), moves_ms(commits)
    logger.info(
        "seed %s: %s generations, %s events, %s units; partitions that stay: longest pauses %s, p99.9 %s, "
        "p99 %s; %s moves: %s ms at most, median %s ms",
        seed, _generations(crew), load.events, sum(map(len, commits)),
        [tuple(pause) for pause in pauses[:6]], tuple(pauses[len(pauses) // 1000]),
        tuple(pauses[len(pauses) // 100]), len(moves), moves[0], moves[len(moves) // 2],
    )  # fmt: skip
    # Two cores run the broker, the load and up to four workers, one of which may just be starting.
    assert pauses[len(pauses) // 100].counted_ms <= PAUSE_MS_MAX
    assert pauses[0].counted_ms <= STALL_MS_MAX


async def _shuffle(client: httpx.AsyncClient, crew: Sequence[Worker], fate: random.Random) -> None:
    """From 1 worker to 4 and down to 2, then at random, until there were enough rebalances."""
    for action in ("join", "join", "join", "kill", "stop"):
        await _act(action, crew, fate)
        await _until_settled(client, crew)
    while _generations(crew) < REBALANCES:
        await _act(fate.choice(_ACTIONS), crew, fate)
        if fate.random() < 0.5:
            await _until_settled(client, crew)
        else:
            # The next one comes in the middle of this rebalance.
            await breath(fate.random())
    await _until_settled(client, crew)


async def _act(action: str, crew: Sequence[Worker], fate: random.Random) -> None:
    running = [worker for worker in crew if worker.is_running]
    resting = [worker for worker in crew if not worker.is_running]
    if resting and (action == "join" or len(running) == 1):
        worker = fate.choice(resting)
        if fate.random() < 0.2:
            worker.lose_disk()
        await worker.start()
    elif action == "stop" and (listening := [worker for worker in running if worker.is_ready]):
        worker = fate.choice(listening)
        assert await worker.terminate() == 0, worker.tail()
    else:
        await fate.choice(running).kill()


async def _until_settled(client: httpx.AsyncClient, crew: Sequence[Worker]) -> None:
    """Return once the running workers serve every partition, each by one of them.

    Asks again and again: other processes have no way to wake this one.
    """
    served: list[str] = []
    try:
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            while True:
                served, are_ready = await _served(client, crew)
                if are_ready and sorted(served) == [f"main/{number}" for number in range(PARTITIONS)]:
                    return
                await breath(0.2)
    except TimeoutError:
        tails = "\n\n".join(f"{worker.instance}:\n{worker.tail()}" for worker in crew)
        raise AssertionError(f"not settled, served: {served}\n{tails}") from None


async def _served(client: httpx.AsyncClient, crew: Sequence[Worker]) -> tuple[list[str], bool]:
    """The partitions that are served, and whether every running worker has told of its own."""
    served: list[str] = []
    are_ready = True
    for worker in crew:
        if not worker.is_running:
            continue
        try:
            answer = await worker.get(client, "/readyz")
        except httpx.TransportError:
            assert worker.is_running, worker.tail()
            are_ready = False
            continue
        are_ready = are_ready and answer.status_code == 200
        partitions = json.loads(answer.content)["partitions"]
        served += [name for name, shown in partitions.items() if shown["state"] == "serving"]
    return served, are_ready


async def _check_tables(worker: Worker) -> None:
    """`headrace tables` shows every partition, covered to its end."""
    status, output = await worker.command("tables", "--json")
    assert status == 0, output
    rows = json.loads(output.splitlines()[-1])
    assert [(row["partition"], row["lag"]) for row in rows] == [(p, 0) for p in range(PARTITIONS)], output


def _generations(crew: Sequence[Worker]) -> int:
    """How many generations the workers have told of."""
    return len(Shares(crew).generations)
