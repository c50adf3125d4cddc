"""A worker that stood still while another one took its tasks over: a zombie."""

from pathlib import Path

import httpx
import pytest

from app.grocery import load_year
from headrace.log.connect import connect
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.ledger import Ledger, check_log, check_reads
from tests.process.workers import Worker, running, until_covered


@pytest.mark.kafka
async def test_a_worker_that_wakes_up_after_its_tasks_were_taken_over_writes_nothing(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    address = f"kafka://{own_broker.address}"
    environment = {
        "HEADRACE_LOG": address,
        "HEADRACE_SESSION_TIMEOUT_S": "2",
        "HEADRACE_TRANSACTION_TIMEOUT_S": "3",
    }
    zombie, heir = (Worker("app.loyalty", name, tmp_path, environment) for name in ("w0", "w1"))
    log = connect(Settings(log=address))
    await log.open()
    try:
        # While it stands still the kernel goes on to accept its connections; nobody answers on them.
        async with httpx.AsyncClient(timeout=1.0) as client, running(zombie, heir):
            writer = await log.writer("tills")
            ledger = Ledger(load_year(), writer)
            for is_asleep in (False, True, False):
                appends = ledger.round(900)
                for index, append in enumerate(appends):
                    await append.append()
                    if is_asleep and index == len(appends) // 3:
                        zombie.pause()
                await until_covered(client, [heir] if is_asleep else [zombie, heir], ledger.ends)
                if is_asleep:
                    zombie.resume()
            await writer.close()
            await check_reads(client, [zombie, heir], ledger)
            assert any("this worker owns 8 tasks" in line for line in heir.lines), heir.tail()
            assert zombie.is_running, zombie.tail()
            assert await zombie.terminate() == 0
            assert await heir.terminate() == 0
        await check_log(log, ledger)
    finally:
        await log.close()
