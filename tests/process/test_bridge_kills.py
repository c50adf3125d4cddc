"""Applier, relay, service and PostgreSQL itself are killed: what was paid is everywhere once.

`HEADRACE_TEST_BRIDGE_KILLS=200` kills 200 times over a million payments instead of 20 times.
"""

import asyncio
import logging
import os
import random
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from headrace.bridge.database import connect as connect_database
from headrace.bridge.outboxtable import ensure_outbox
from headrace.events.envelope import decode_envelope
from headrace.events.position import TopicPartition
from headrace.log.connect import connect
from headrace.log.stretch import chunks
from headrace.settings import Settings
from headrace.testing.postgres_server import PostgresServer
from tests.bridge.databases import rows, run
from tests.process.apps.sql_till import HOUSEHOLDS
from tests.process.workers import REPOSITORY, Worker, breath, running

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("HEADRACE_TEST_BRIDGE_KILLS") or 20)
PAYMENTS = 5_000 * KILLS if KILLS > 20 else 30_000


class SqlTill:
    """The service, in a process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.process.apps.sql_till", self._url, str(PAYMENTS), cwd=REPOSITORY
        )

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def until_done(self) -> None:
        assert self._process is not None
        assert await self._process.wait() == 0


@pytest.mark.timeout(150 if KILLS <= 20 else 7_200)
async def test_whoever_is_killed_every_payment_is_everywhere_once(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    url, dice = own_postgres.url, random.Random(20261124)
    await _prepare(url)
    address = f"embedded://{tmp_path}/log.db"
    worker = Worker(
        "tests.process.apps.bridged", "w0", tmp_path, {"HEADRACE_LOG": address, "HEADRACE_DATABASE": url}
    )
    till = SqlTill(url)
    killed: Counter[str] = Counter()
    async with running(worker):
        await till.start()
        try:
            for _ in range(KILLS):
                await breath(0.1 + 0.7 * dice.random())
                killed[victim := dice.choice(("worker", "till", "server"))] += 1
                await _kill(victim, worker, till, own_postgres)
            await till.until_done()
        finally:
            await till.kill()
        await worker.until_ready()
        await _until_applied(url)
        await _check(url, address, worker)
    logger.info("killed: %s", dict(killed))


async def _prepare(url: str) -> None:
    for table in ("paid", "sums"):
        await run(
            url,
            f"CREATE TABLE {table} (household bigint PRIMARY KEY, cents bigint, payments bigint)",
        )
    engine = connect_database(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    await session.close()


async def _kill(victim: str, worker: Worker, till: SqlTill, server: PostgresServer) -> None:
    if victim == "worker":
        await worker.kill()
        await worker.start()
    elif victim == "till":
        await till.kill()
        await till.start()
    else:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)


async def _until_applied(url: str) -> None:
    """Return once the database says of itself that everything paid has come back by the events."""
    async with asyncio.timeout(60.0):
        while await rows(url, "SELECT sum(payments) FROM sums") != [(PAYMENTS,)]:
            await breath(0.1)


async def _check(url: str, address: str, worker: Worker) -> None:
    paid = await rows(url, "SELECT household, cents, payments FROM paid ORDER BY household")
    assert sum(row[2] for row in paid) == PAYMENTS
    assert await rows(url, "SELECT household, cents, payments FROM sums ORDER BY household") == paid
    ids = await _published(address)
    assert len(ids) == PAYMENTS
    assert len(set(ids)) == PAYMENTS
    async with httpx.AsyncClient(timeout=30.0) as client:
        found: dict[int, int] = {}
        answer = await client.get(
            f"http://{worker.address}/totals?limit={HOUSEHOLDS}", headers={"Headrace-Consistency": "latest"}
        )
        found.update((row["key"], row["value"]) for row in answer.json()["rows"])
    assert found == {household: cents for household, cents, _ in paid}


async def _published(address: str) -> list[bytes]:
    """The id of every event in the topic."""
    log, ids = connect(Settings(log=address)), list[bytes]()
    await log.open()
    for partition in range(4):
        place = TopicPartition("bridged.paid", partition)
        held = (await log.offsets([place]))[place]
        async for chunk in chunks(log, place, held.start, held.end):
            envelopes = [decode_envelope(headers) for headers in chunk.headers]
            ids += [envelope.event_id for envelope in envelopes if envelope is not None]
    await log.close()
    return ids
