"""kill -9 at random instants under load: nothing is lost, nothing is counted twice."""

import json
import os
import random
from pathlib import Path

import httpx
import pytest

from app.grocery import load_year
from headrace.log.connect import connect
from headrace.settings import Settings
from tests.process.ledger import Ledger, check_log, check_reads
from tests.process.workers import Worker, breath, running, until_covered

CYCLES = int(os.environ.get("HEADRACE_TEST_KILLS", "10"))
"""Every second one of them loses the disk, too."""
BASKETS_PER_CYCLE = 1_500


@pytest.mark.timeout(400)
async def test_a_worker_on_the_embedded_log_survives_kills_and_lost_disks(tmp_path: Path) -> None:
    """On Kafka tests/chaos does the same, and more."""
    fate = random.Random(20261124)
    address = f"embedded://{tmp_path}/log.db"
    worker = Worker("app.loyalty", "w0", tmp_path, {"HEADRACE_LOG": address})
    log = connect(Settings(log=address))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0) as client, running(worker):
            writer = await log.writer("tills")
            ledger = Ledger(load_year(), writer)
            for cycle in range(CYCLES):
                await _cycle(ledger, worker, fate, is_disk_lost=cycle % 2 == 1)
                await until_covered(client, [worker], ledger.ends)
            await writer.close()
            assert ledger.corrections, "the load has no redemption to correct"
            assert any(any(verdicts) for verdicts in ledger.redemptions.values())
            await check_reads(client, [worker], ledger)
            assert await worker.terminate() == 0, worker.tail()
        await check_log(log, ledger)
        status, output = await worker.command("verify", "--json")
        assert status == 0, output
        stores = json.loads(output.splitlines()[-1])
        assert {store["verdict"] for store in stores} == {"equal"}, output
        assert sum(store["rows"] for store in stores) > 0, output
    finally:
        await log.close()


async def _cycle(ledger: Ledger, victim: Worker, fate: random.Random, *, is_disk_lost: bool) -> None:
    """Append a round; at a random instant of it the worker is killed and started again."""
    appends = ledger.round(BASKETS_PER_CYCLE)
    instant = fate.randrange(len(appends))
    for index, append in enumerate(appends):
        await append.append()
        if index == instant:
            await breath(fate.random() * 0.03)
            await victim.kill()
            if is_disk_lost:
                victim.lose_disk()
            await victim.start()
    await victim.until_ready()
