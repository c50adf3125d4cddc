"""How a worker ends: in peace when it is told to, by name when it cannot go on."""

import random
from pathlib import Path

import httpx
import pytest

from app.grocery import load_year
from headrace.log.connect import connect
from headrace.log.port import Append
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.ledger import Ledger, check_log, check_reads, read_all
from tests.process.workers import Worker, running, until_covered

STOPS = 4


async def test_sigterm_under_load_finishes_the_unit_on_the_embedded_log(tmp_path: Path) -> None:
    await _stop_under_load(f"embedded://{tmp_path}/log.db", tmp_path)


@pytest.mark.kafka
async def test_sigterm_under_load_finishes_the_unit_on_kafka(own_broker: KafkaBroker, tmp_path: Path) -> None:
    await _stop_under_load(f"kafka://{own_broker.address}", tmp_path)


async def _stop_under_load(address: str, folder: Path) -> None:
    """Stop by SIGTERM while events stream in; start again; nothing is lost and nothing counted twice."""
    fate = random.Random(8)
    worker = Worker("app.loyalty", "w0", folder, {"HEADRACE_LOG": address})
    log = connect(Settings(log=address))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0) as client, running(worker):
            writer = await log.writer("tills")
            ledger = Ledger(load_year(), writer)
            for _ in range(STOPS):
                appends = ledger.round(600)
                instant = fate.randrange(len(appends))
                for index, append in enumerate(appends):
                    await append.append()
                    if index == instant:
                        assert await worker.terminate(timeout_s=10.0) == 0, worker.tail()
                        await worker.start()
                await worker.until_ready()
                await until_covered(client, [worker], ledger.ends)
            await writer.close()
            await check_reads(client, [worker], ledger)
        await check_log(log, ledger)
    finally:
        await log.close()


async def test_a_handler_that_raises_stops_its_partition_with_the_place_of_the_event(tmp_path: Path) -> None:
    address = f"embedded://{tmp_path}/log.db"
    worker = Worker("tests.process.apps.fragile", "w0", tmp_path, {"HEADRACE_LOG": address})
    log = connect(Settings(log=address))
    await log.open()
    try:
        async with running(worker):
            writer = await log.writer("feeder")
            values = (b"1", b"2", b"13", b"4")
            await writer.commit([Append("numbers", 0, [(b"all", value, (), 0) for value in values])])
            await writer.close()
            await worker.until_said("stands still, HandlerError")
        named = [line for line in worker.lines if "stands still" in line and "agent add raised" in line]
        assert named, worker.tail()
        assert "topic numbers, partition 0, offset 2" in named[0]
        # What precedes it is durable: it is committed before the event is tried by itself.
        rows = [value for key, value in await read_all(log, "fragile.main.changelog") if key == b"sums\0all"]
        assert rows == [b"3"]
    finally:
        await log.close()


async def test_a_module_that_does_not_import_is_fatal(tmp_path: Path) -> None:
    for by_faust in (True, False):
        environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db"}
        worker = Worker("tests.process.apps.broken", "w0", tmp_path, environment, by_faust=by_faust)
        await worker.start()
        assert await worker.ended() != 0
        assert any("tests.process.apps.absent" in line for line in worker.lines), worker.tail()


async def test_a_second_worker_of_an_app_on_the_embedded_log_is_sent_to_kafka(tmp_path: Path) -> None:
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db"}
    first = Worker("tests.process.apps.fragile", "w0", tmp_path, environment)
    second = Worker("tests.process.apps.fragile", "w1", tmp_path, environment)
    async with running(first):
        await second.start()
        assert await second.ended() == 1
        assert any("AlreadyRunning" in line and "kafka://" in line for line in second.lines), second.tail()
        assert first.is_running
