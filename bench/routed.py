"""What a hop costs: reads at the worker that owns the row, against reads at the other one.

Two workers share the rows of one table on one broker. The same client asks both of them at once, over
kept connections, first each for its own rows, then each for the other's, in turn; the connections and
the client's own work are the same for both kinds.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.broker import NoBroker, broker
from bench.jobs.shelves import Stocked, app, stocked
from bench.process import Program
from bench.workers import free_port
from headrace.http.peers.connection import Connection
from headrace.log.connect import connect
from headrace.log.port import Append
from headrace.settings import Settings

RATIO_MIN = 0.35
P99_MS_MAX = 15.0
_ROWS = 4_000
_PARTITIONS = 8
_START_TIMEOUT_S = 60.0
_BODY_BYTES_MAX = 1 << 20
_LOOK_AGAIN_S = 0.2


class Rate(NamedTuple):
    """What one run came to."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


class Fleet:
    """The workers' addresses, and which rows each of them owns."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.rows: dict[str, list[int]] = {}

    async def until_served(self) -> None:
        """Return once all rows are there, and it is known where. Other processes cannot wake this one."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                if await self._are_served():
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _are_served(self) -> bool:
        events = 0
        for address in self.addresses:
            try:
                connection = await _open(address)
            except OSError:
                return False
            raw = _request(address, b"/readyz")
            answer = await connection.ask(raw, is_head=False, body_bytes_max=_BODY_BYTES_MAX)
            connection.close()
            served = {
                int(name.rpartition("/")[2]): shown["position"]
                for name, shown in json.loads(answer.body)["partitions"].items()
                if shown["state"] == "serving"
            }
            events += sum(sum(position.values()) for position in served.values())
            self.rows[address] = [row for row in range(_ROWS) if _partition(row) in served]
        # Each transaction of the filling has left a marker in each partition.
        return all(self.rows.values()) and events >= _ROWS

    def lanes(self, count: int, *, is_routed: bool) -> list[tuple[str, list[int]]]:
        """Whom each of the client's connections asks, and for which rows."""
        first, second = self.addresses
        other = {first: second, second: first}
        lanes = []
        for number in range(count):
            address = self.addresses[number % 2]
            rows = self.rows[other[address] if is_routed else address]
            at = number * len(rows) // count
            lanes.append((address, rows[at:] + rows[:at]))
        return lanes


def _partition(row: int) -> int:
    return stocked.partitioner.place(stocked.keys.to_wire(row), _PARTITIONS)


def _request(address: str, target: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, address.encode())


async def _open(address: str) -> Connection:
    host, _, port = address.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    return connection


async def _lane(address: str, rows: Sequence[int], ends_at: float, took: list[float]) -> None:
    connection = await _open(address)
    requests = [_request(address, b"/shelves/%d" % row) for row in rows]
    number = 0
    while (began := time.perf_counter()) < ends_at:
        raw = requests[number % len(requests)]
        answer = await connection.ask(raw, is_head=False, body_bytes_max=_BODY_BYTES_MAX)
        if answer.status != 200:
            raise RuntimeError(f"{address} answered {answer.status}: {answer.body!r}")
        took.append(time.perf_counter() - began)
        number += 1
    connection.close()


async def _run(lanes: Sequence[tuple[str, list[int]]], seconds: float) -> Rate:
    took: list[float] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, (address, rows) in enumerate(lanes):
            tasks.create_task(_lane(address, rows, began + seconds, took), name=f"lane {number}")
    elapsed = time.perf_counter() - began
    took.sort()
    return Rate(len(took) / elapsed, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000)


async def _measure(
    addresses: Sequence[str], lanes: int, seconds: float, rounds: int
) -> dict[str, list[Rate]]:
    fleet = Fleet(addresses)
    await fleet.until_served()
    rates: dict[str, list[Rate]] = {"direct": [], "routed": []}
    for is_routed in (False, True):
        await _run(fleet.lanes(lanes, is_routed=is_routed), 1.0)
    for number in range(rounds):
        for kind, found in rates.items():
            found.append(await _run(fleet.lanes(lanes, is_routed=kind == "routed"), seconds))
            shown = found[-1]
            print(
                f"round {number + 1} {kind}: {shown.requests_per_s:,.0f} requests/s, "
                f"p50 {shown.p50_ms:.1f} ms, p99 {shown.p99_ms:.1f} ms",
                flush=True,
            )
    return rates


async def _fill(address: str) -> None:
    """Put something on every shelf."""
    log = connect(Settings(log=f"kafka://{address}"))
    await log.open()
    await log.provision([topic.spec for topic in app.declarations.topics.values()])
    appends: dict[int, list[tuple[bytes | None, bytes | None, tuple[()], int]]] = {}
    for row in range(_ROWS):
        key = stocked.keys.to_wire(row)
        value = msgspec.json.encode(Stocked(row, f"sku-{row:012d}", 1 + row % 9))
        appends.setdefault(_partition(row), []).append((key, value, (), 0))
    writer = await log.writer("bench-shelves-fill")
    await writer.commit([Append(stocked.name, partition, records) for partition, records in appends.items()])
    await writer.close()
    await log.close()


def _workers(stack: ExitStack, address: str, folder: Path, secret: str) -> Iterator[str]:
    """Start two workers; their addresses."""
    for number in range(2):
        http = f"127.0.0.1:{free_port()}"
        environment = {
            "HEADRACE_LOG": f"kafka://{address}",
            "HEADRACE_DATA": str(folder / str(number)),
            "HEADRACE_HTTP": http,
            "HEADRACE_INSTANCE": f"shelves-{number}",
            "HEADRACE_PEER_SECRET": secret,
        }
        command = [sys.executable, "-m", "headrace", "-A", "bench.jobs.shelves", "worker", "-l", "error"]
        log = folder / f"worker-{number}.log"
        stack.enter_context(
            Program(command, log=log, folder=Path(__file__).parents[1], environment=environment)
        )
        yield http


def main() -> int:
    """Measure and print; 1 without a broker, or where the hop costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.routed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, default=16, help="connections of the client")
    parser.add_argument("--secret", default="what the two workers share", help="empty: none")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        try:
            address = stack.enter_context(broker(options.broker))
        except NoBroker as error:
            print(error, file=sys.stderr)
            return 1
        asyncio.run(_fill(address))
        addresses = list(_workers(stack, address, folder, options.secret))
        rates = asyncio.run(_measure(addresses, options.lanes, options.seconds, options.rounds))
    direct, routed = (
        statistics.median(rate.requests_per_s for rate in rates[kind]) for kind in ("direct", "routed")
    )
    p99_ms = statistics.median(rate.p99_ms for rate in rates["routed"])
    ratio = routed / direct
    print(f"routed: {ratio:.2f} of the requests/s of direct (at least {RATIO_MIN}), ", end="")
    print(f"p99 {p99_ms:.1f} ms (at most {P99_MS_MAX:g})")
    print(json.dumps({"ratio": ratio, "p99_ms": p99_ms, **{kind: rates[kind] for kind in rates}}))
    return 0 if ratio >= RATIO_MIN and p99_ms <= P99_MS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
