"""kill -9 at random instants under load: nothing is lost, nothing is counted twice."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec
import pytest

from app.grocery import load_year
from headrace.log.connect import connect
from headrace.log.port import Log
from headrace.settings import Settings
from headrace.tables.changelog import POSITION_KEY
from headrace.testing.kafka_broker import KafkaBroker
from schemas.loyalty import RedemptionCorrected
from tables.loyalty import balances, department_spend
from tests.process.ledger import Ledger, read_all
from tests.process.workers import Worker, breath, running, until_covered

CYCLES = 20
BASKETS_PER_CYCLE = 1_500


@pytest.mark.kafka
@pytest.mark.timeout(400)
async def test_two_workers_on_kafka_survive_20_kills_and_10_lost_disks(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    await _survive(f"kafka://{kafka_broker.address}", tmp_path, workers=2, seed=20261123)


@pytest.mark.timeout(400)
async def test_one_worker_on_the_embedded_log_survives_20_kills_and_10_lost_disks(tmp_path: Path) -> None:
    await _survive(f"embedded://{tmp_path}/log.db", tmp_path, workers=1, seed=20261124)


async def _survive(address: str, folder: Path, *, workers: int, seed: int) -> None:
    fate = random.Random(seed)
    environment = {"HEADRACE_LOG": address}
    crew = [Worker("app.loyalty", f"w{number}", folder, environment) for number in range(workers)]
    log = connect(Settings(log=address))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0) as client, running(*crew):
            writer = await log.writer("tills")
            ledger = Ledger(load_year(), writer)
            for cycle in range(CYCLES):
                await _cycle(ledger, crew, fate, is_disk_lost=cycle % 2 == 1)
                await until_covered(client, crew, ledger.ends)
            await writer.close()
            assert ledger.corrections, "the load has no redemption to correct"
            assert any(any(verdicts) for verdicts in ledger.redemptions.values())
            await _check_reads(client, crew, ledger)
            for worker in crew:
                assert await worker.terminate() == 0, worker.tail()
        await _check_log(log, ledger)
        for worker in crew:
            status, output = await worker.command("verify")
            assert status == 0, output
    finally:
        await log.close()


async def _cycle(ledger: Ledger, crew: Sequence[Worker], fate: random.Random, *, is_disk_lost: bool) -> None:
    """Append a round; at a random instant of it one worker is killed and started again."""
    appends = ledger.round(BASKETS_PER_CYCLE)
    instant = fate.randrange(len(appends))
    victim = fate.choice(crew)
    for index, append in enumerate(appends):
        await append.append()
        if index == instant:
            await breath(fate.random() * 0.03)
            await victim.kill()
            if is_disk_lost:
                victim.lose_disk()
            await victim.start()
    await victim.until_ready()


async def _check_reads(client: httpx.AsyncClient, crew: Sequence[Worker], ledger: Ledger) -> None:
    """Table over HTTP == ledger, for every household and every table."""
    for household, balance in ledger.balances.items():
        row = await _read(client, crew, f"/balances/{household}")
        assert msgspec.json.encode(balance) == row, household
    for household, spend in ledger.departments.items():
        assert msgspec.json.decode(await _read(client, crew, f"/departments/{household}")) == spend, household
    for household, verdicts in ledger.redemptions.items():
        row = msgspec.json.decode(await _read(client, crew, f"/redemptions/{household}"))
        assert [each["is_honoured"] for each in row] == verdicts, household


async def _read(client: httpx.AsyncClient, crew: Sequence[Worker], path: str) -> bytes:
    """The row from whichever worker owns it; the others must say that they do not."""
    for worker in crew:
        answer = await worker.get(client, path)
        if answer.status_code == 200:
            return answer.content
        assert answer.status_code == 503, (path, answer.status_code, answer.text)
    raise AssertionError(f"no worker owns {path}")


async def _check_log(log: Log, ledger: Ledger) -> None:
    """Changelog fold == ledger, and each correction is visible to committed readers once."""
    fold: dict[bytes, bytes] = {}
    for key, value in await read_all(log, "loyalty.main.changelog"):
        assert key is not None
        if key == POSITION_KEY:
            continue
        if value is None:
            fold.pop(key, None)
        else:
            fold[key] = value
    for household, balance in ledger.balances.items():
        key = balances.row_prefix + balances.keys.to_store(household)
        assert fold[key] == msgspec.json.encode(balance), household
    stored = sum(key.startswith(balances.row_prefix) for key in fold)
    assert stored == len(ledger.balances)
    assert sum(key.startswith(department_spend.row_prefix) for key in fold) == len(ledger.departments)

    sent = [
        msgspec.json.decode(value or b"", type=RedemptionCorrected)
        for _, value in await read_all(log, "loyalty.events")
    ]
    assert Counter(correction.corrects for correction in sent) == ledger.corrections
