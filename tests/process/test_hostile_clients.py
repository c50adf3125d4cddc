"""Clients that mean no good, against a worker process; a good client beside them must not notice."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from urllib.parse import quote

import pytest

from tests.http.smuggled import ANSWERED_BY_H11, Verdict, corpus
from tests.http.test_hostile import PIECES, SEED
from tests.http.test_smuggling import LAST, answers
from tests.process.workers import REPOSITORY, Worker, breath, running

CONNECTIONS = 500
ASKED = 200
"""Requests of the good client before each attack, and beside it."""
DRIP_EVERY = 5
FLOOR_S, MEDIAN_FLOOR_S = 1.0, 0.05
"""Below these a p99 and a median are taken for good: the machine may be busy with something else."""
RSS_BYTES_MAX = 50 * 1024 * 1024
GOOD = b"GET /seats/somebody HTTP/1.1\r\nHost: x\r\n\r\n"
NO_HTTPTOOLS = "import sys\nsys.modules['httptools'] = None\n"

SHORT = {"HEADRACE_HTTP_BODY_TIMEOUT_S": "2", "HEADRACE_HTTP_HEAD_TIMEOUT_S": "2"}


@asynccontextmanager
async def hall(parser: str, folder: Path, **settings: str) -> AsyncIterator[Worker]:
    """A worker whose HTTP is parsed by this, with one row in its table."""
    (folder / "sitecustomize.py").write_text(NO_HTTPTOOLS if parser == "h11" else "")
    environment = {
        "HEADRACE_LOG": f"embedded://{folder}/log.db",
        "PYTHONPATH": f"{folder}:{REPOSITORY}",
        **settings,
    }
    worker = Worker("tests.process.apps.hall", "hall-1", folder, environment)
    async with running(worker):
        async with asyncio.timeout(60):
            assert await statuses(worker, ordered("somebody")) == [201, 200]
            while await statuses(worker, GOOD) != [200, 200]:
                await breath()
        yield worker


def address_of(worker: Worker) -> tuple[str, int]:
    host, _, port = worker.address.partition(":")
    return host, int(port)


async def statuses(worker: Worker, wire: bytes) -> list[int]:
    """The statuses of the answers to this request, and to a good one behind it."""
    return await answers(address_of(worker), wire + LAST)


def ordered(name: str) -> bytes:
    body = name.encode()
    return b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Attackers:
    """Many connections, each of which costs the worker something as long as it lets them."""

    def __init__(self, worker: Worker) -> None:
        self._address = address_of(worker)
        self.open: list[asyncio.StreamWriter] = []
        self.piece = b"x"

    async def connect(self, begun: bytes, piece: bytes, connections: int = CONNECTIONS) -> None:
        """Open the connections, and begin a request on each; `piece` is what drips later."""
        self.piece = piece
        for _ in range(connections):
            _, writer = await asyncio.open_connection(*self._address)
            writer.write(begun)
            self.open.append(writer)

    def drip(self, turn: int) -> None:
        """One more byte on a tenth of them."""
        for writer in self.open[turn % 10 :: 10]:
            if not writer.is_closing():
                writer.write(self.piece)

    async def close(self) -> None:
        """Go away."""
        for writer in self.open:
            writer.transport.abort()
        self.open.clear()
        await asyncio.sleep(0)


async def slow_heads(attackers: Attackers) -> None:
    await attackers.connect(b"GET /seats/somebody HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x")


async def slow_bodies(attackers: Attackers) -> None:
    await attackers.connect(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x")


async def silence(attackers: Attackers) -> None:
    await attackers.connect(b"", b"")


async def large_heads(attackers: Attackers) -> None:
    await attackers.connect(b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 1_048_576, b"x", 50)


async def long_targets(attackers: Attackers) -> None:
    await attackers.connect(b"GET /seats/" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"x", 100)


ATTACKS = (slow_heads, slow_bodies, silence, large_heads, long_targets)


async def good_requests(worker: Worker, attackers: Attackers) -> list[float]:
    """What each request of a good client took, in seconds; the attack goes on between them."""
    reader, writer = await asyncio.open_connection(*address_of(worker))
    took = []
    for turn in range(ASKED):
        if turn % DRIP_EVERY == 0:
            attackers.drip(turn // DRIP_EVERY)
        began = time.perf_counter()
        writer.write(GOOD)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert await reader.readexactly(1) == b"1"
        took.append(time.perf_counter() - began)
    writer.close()
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


def memory_bytes(worker: Worker, name: str) -> int:
    """A figure of the worker's memory, as Linux tells it."""
    for line in Path(f"/proc/{worker.pid}/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def forget_peak(worker: Worker) -> None:
    """Let the worker's VmHWM count from here on."""
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_bad_connections_cost_the_good_client_and_the_memory_little(
    parser: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone: list[float] = []
    found: list[tuple[str, list[float], int]] = []
    async with hall(parser, tmp_path) as worker, AsyncExitStack() as stack:
        attackers = Attackers(worker)
        stack.push_async_callback(attackers.close)
        await good_requests(worker, attackers)
        for attack in ATTACKS:
            alone += await good_requests(worker, attackers)
            forget_peak(worker)
            before_bytes = memory_bytes(worker, "VmRSS")
            await attack(attackers)
            took = await good_requests(worker, attackers)
            await attackers.close()
            found.append((attack.__name__, took, memory_bytes(worker, "VmHWM") - before_bytes))
    with capsys.disabled():
        sys.stdout.write(f"\n{parser}: the good client's p99 is {p99(alone) * 1e3:.1f} ms alone")
        for name, took, grown_bytes in found:
            sys.stdout.write(f"; {name} {p99(took) * 1e3:.1f} ms, {grown_bytes / 2**20:+.1f} MiB")
        sys.stdout.write("\n")
    for name, took, grown_bytes in found:
        assert p99(took) <= max(2 * p99(alone), FLOOR_S), name
        assert median(took) <= max(2 * median(alone), MEDIAN_FLOOR_S), name
        assert grown_bytes <= RSS_BYTES_MAX, name


@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_nothing_hidden_is_answered_and_every_key_comes_back_or_is_refused(
    parser: str, tmp_path: Path
) -> None:
    async with hall(parser, tmp_path, **SHORT) as worker:
        taken = ANSWERED_BY_H11 if parser == "h11" else frozenset()
        for attempt in corpus():
            if attempt.name in taken:
                continue
            found = await statuses(worker, attempt.wire)
            assert all(status < 500 for status in found), attempt.name
            if attempt.verdict is Verdict.REFUSED:
                assert len(found) <= 1, attempt.name
                assert all(status >= 400 for status in found), attempt.name
        said = await reply(worker, b"GET /reached HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.endswith(b"\r\n\r\n[]")
        chance = random.Random(SEED)
        for _ in range(500):
            key = "".join(chance.choice(PIECES) for _ in range(3))
            target = b"/seats/" + quote(key, safe="").encode()
            found = await statuses(worker, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert found[0] in (400, 404, 414), (key, found)
        assert worker.is_running


async def reply(worker: Worker, wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address_of(worker))
    writer.write(wire)
    said = await reader.read()
    writer.close()
    return said
