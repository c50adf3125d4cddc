"""`python -m bench.diff`: a million rows compared with the old database while events go on.

A worker folds purchases into a table and applies them to PostgreSQL. Differences of every kind are planted;
`headrace bridge diff` must name exactly these, then mend them, then find nothing. Meanwhile both sides are
looked at every few milliseconds: the longest time without progress is a pause.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg

from bench.drifting import PARTITIONS, Bought, purchases
from headrace.log.connect import connect
from headrace.log.port import Append, Log, Outgoing, Writer
from headrace.settings import Settings
from headrace.testing.postgres_server import PostgresServer

ROOT = Path(__file__).parent.parent
APP = "bench.drifting"
_EVENTS_PER_SECOND = 2_000
_TICK_S = 0.02
_LOOK_S = 0.004
_TABLE = (
    "CREATE TABLE balances (household_id bigint PRIMARY KEY, cents bigint NOT NULL, visits bigint NOT NULL)"
)
_FILL = 5_000
_QUIET_S = 15.0


class Load:
    """Purchases of the households from `first` on, at a steady rate."""

    def __init__(self, writer: Writer, first: int, households: int) -> None:
        self.sent = 0
        self._writer = writer
        self._dice = random.Random(1)
        self._range = (first, households)
        self._encode = msgspec.json.Encoder().encode

    async def buy(self, households: Iterator[int]) -> None:
        """One purchase of each, in one transaction."""
        by_partition: dict[int, list[Outgoing]] = {}
        for household in households:
            key = b"%d" % household
            value = purchases.values.encode(Bought(household, self._dice.randrange(1, 9_000)))
            partition = purchases.partitioner.place(key, PARTITIONS)
            by_partition.setdefault(partition, []).append((key, value, (), 0))
            self.sent += 1
        await self._writer.commit([Append(purchases.name, p, records) for p, records in by_partition.items()])

    async def run(self) -> None:
        """Go on until cancelled, at the rate."""
        began, ticks = time.perf_counter(), 0
        while True:
            await self.buy(
                self._dice.randrange(*self._range) for _ in range(int(_EVENTS_PER_SECOND * _TICK_S))
            )
            ticks += 1
            await asyncio.sleep(max(0.0, began + ticks * _TICK_S - time.perf_counter()))


class Pauses:
    """The longest time that each side stood still."""

    def __init__(self) -> None:
        self.longest_s: dict[str, float] = {}

    @asynccontextmanager
    async def watching(self, looks: Mapping[str, Callable[[], Awaitable[Any]]]) -> AsyncIterator[None]:
        """Look again and again for the time of the block."""
        self.longest_s = dict.fromkeys(looks, 0.0)
        tasks = [asyncio.create_task(self._watch(*each), name=each[0]) for each in looks.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _watch(self, side: str, look: Callable[[], Awaitable[Any]]) -> None:
        seen, since = await look(), time.perf_counter()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = await look()
            if now != seen:
                self.longest_s[side] = max(self.longest_s[side], time.perf_counter() - since)
                seen, since = now, time.perf_counter()

    def told(self) -> dict[str, int]:
        """In milliseconds."""
        return {side: round(1000 * seconds) for side, seconds in self.longest_s.items()}


async def _plant(connection: psycopg.AsyncConnection[Any], households: int, each: int) -> dict[str, set[int]]:
    dice = random.Random(2)
    quiet = dice.sample(range(households // 2), 2 * each)
    missing, different = set(quiet[:each]), set(quiet[each:])
    extra = {-1 - number for number in range(each)}
    await connection.execute("DELETE FROM balances WHERE household_id = ANY(%s)", (list(missing),))
    await connection.execute(
        "UPDATE balances SET cents = cents + 1 WHERE household_id = ANY(%s)", (list(different),)
    )
    await connection.execute("INSERT INTO balances SELECT unnest(%s::bigint[]), 1, 1", (list(extra),))
    return {"missing": missing, "extra": extra, "different": different}


class Scene:
    """A worker, the database behind it, and what looks at both."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.environment = {
            **os.environ,
            "HEADRACE_LOG": f"embedded://{folder}/log.db",
            "HEADRACE_DATA": f"{folder}/data",
            "HEADRACE_DATABASE": url,
            "HEADRACE_HTTP": "127.0.0.1:6497",
        }
        self.looks = {"database": self.applied, "table": self.folded}
        self.connection: psycopg.AsyncConnection[Any]
        self.client: httpx.AsyncClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Log]:
        """The worker runs; the log is open."""
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace", "-A", APP, "worker", cwd=ROOT, env=self.environment,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True)
        self.client = httpx.AsyncClient(base_url="http://127.0.0.1:6497")
        log = connect(Settings(log=self.environment["HEADRACE_LOG"]))
        try:
            await _until_ready(self.client)
            await log.open()
            yield log
        finally:
            await self.client.aclose()
            await self.connection.close()
            await log.close()
            if worker.returncode is None:
                worker.terminate()
            await worker.wait()

    async def applied(self) -> int:
        """How far the database is."""
        found = await self.connection.execute("SELECT coalesce(sum(offset_next), 0) FROM headrace_positions")
        return int((await found.fetchone() or (0,))[0])

    async def folded(self) -> int:
        """How far the table is."""
        partitions = (await self.client.get("/readyz")).json()["partitions"]
        return sum(sum(p.get("position", {}).values()) for n, p in partitions.items() if n.startswith("main"))

    async def diff(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit status and answer of the command."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace", "-A", APP, "bridge", "diff", "balances", "--json", *arguments,
            cwd=ROOT, env=self.environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(output)


async def _measure(url: str, folder: Path, households: int, each: int) -> dict[str, Any]:
    scene = Scene(url, folder)
    async with scene.open() as log:
        writer = await log.writer("bench")
        load = Load(writer, households // 2, households)
        began = time.perf_counter()
        for start in range(0, households, _FILL):
            await load.buy(iter(range(start, min(households, start + _FILL))))
        await _until_both(households, scene.applied, scene.folded)
        print(f"{households:,} rows on both sides after {time.perf_counter() - began:.0f} s", flush=True)
        planted = await _plant(scene.connection, households, each)
        going = asyncio.create_task(load.run(), name="load")
        try:
            return await _compare(scene, load, planted)
        finally:
            going.cancel()
            await asyncio.wait({going})
            await writer.close()


async def _compare(scene: Scene, load: Load, planted: Mapping[str, set[int]]) -> dict[str, Any]:
    quiet, during, mending = Pauses(), Pauses(), Pauses()
    async with quiet.watching(scene.looks):
        await asyncio.sleep(_QUIET_S)
    sent, began = load.sent, time.perf_counter()
    async with during.watching(scene.looks):
        status, first = await scene.diff("--limit", str(10 * sum(map(len, planted.values()))))
    seconds = time.perf_counter() - began
    rate = (load.sent - sent) / seconds
    found = {k: {d["key"] for d in first["differences"] if d["kind"] == k} for k in planted}
    async with mending.watching(scene.looks):
        _, mended = await scene.diff("--repair-sql", "--limit", "0")
    last_status, last = await scene.diff()
    return {
        "rows": first["compared"],
        "seconds": round(seconds, 1),
        "seconds_of_comparing": first["seconds"],
        "events_per_second": round(rate),
        "is_exact": found == planted and status == 1,
        "repaired": mended["repaired"],
        "is_clean_after": last_status == 0 and last["undecided"] == 0,
        "longest_pause_ms": {
            "before": quiet.told(), "comparing": during.told(), "comparing_and_mending": mending.told()
        },
    }  # fmt: skip


async def _until_both(events: int, *looks: Callable[[], Awaitable[Any]]) -> None:
    """Return once both sides have so many events; neither wakes anybody here."""
    for look in looks:
        behind = events
        while behind > 0:
            await asyncio.sleep(0.2)
            behind = events - await look()


async def _until_ready(client: httpx.AsyncClient) -> None:
    while True:
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)


def main() -> int:
    """Measure and print; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m bench.diff", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--planted", type=int, default=50)
    options = parser.parse_args()
    with (
        PostgresServer(is_durable=True) as server,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
    ):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(_TABLE.encode())
        found = asyncio.run(_measure(server.url, Path(folder), options.rows, options.planted))
    print(json.dumps(found))
    return 0 if found["is_exact"] and found["is_clean_after"] else 1


if __name__ == "__main__":
    sys.exit(main())
