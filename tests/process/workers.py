"""Real worker processes: started as users start them, killed as machines kill them."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[2]
READY = "partitions are served"
_START_TIMEOUT_S = 60.0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Worker:
    """One worker process of an app, with an instance name, an address and a data folder of its own."""

    def __init__(
        self,
        app: str,
        instance: str,
        folder: Path,
        environment: Mapping[str, str],
        *,
        by_faust: bool = True,
        is_static: bool = True,
    ) -> None:
        self.app = app
        self.instance = instance
        self.data = folder / instance
        self.address = f"127.0.0.1:{free_port()}"
        self.lines: list[str] = []
        self._wrote = asyncio.Event()
        program = [sys.executable, "-m", "faust"] if by_faust else [sys.executable, "-m", "headrace"]
        self._command = [*program, "-A", app, "worker", "-l", "info"]
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "HEADRACE_DATA": str(self.data),
            **({"HEADRACE_INSTANCE": instance} if is_static else {}),
            "HEADRACE_HTTP": self.address,
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._ready = asyncio.Event()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=REPOSITORY,
            env=self.environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self._process, self._ready), name=self.instance)

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.lines.append(line.decode(errors="replace").rstrip())
            wrote, self._wrote = self._wrote, asyncio.Event()
            wrote.set()
            if READY in self.lines[-1]:
                ready.set()

    async def until_ready(self) -> None:
        """Return once the worker serves; fail with its last lines when it ends or takes too long."""
        assert self._reading is not None
        ready = asyncio.create_task(self._ready.wait(), name=f"{self.instance} ready")
        await asyncio.wait(
            {ready, self._reading}, timeout=_START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        is_ready = ready.done()
        ready.cancel()
        assert is_ready, f"{self.instance} did not become ready:\n" + self.tail()

    async def until_said(self, words: str, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return once the worker has written a line with these words."""
        async with asyncio.timeout(timeout_s):
            while not any(words in line for line in self.lines):
                await self._wrote.wait()

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def terminate(self, timeout_s: float = 10.0) -> int:
        """SIGTERM; the exit status. Fails when the worker is not gone in time."""
        async with asyncio.timeout(timeout_s):
            return await self._end(signal.SIGTERM)

    async def ended(self, timeout_s: float = 30.0) -> int:
        """The exit status of a worker that ends by itself."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            status = await self._process.wait()
            assert self._reading is not None
            await self._reading
            return status

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.ended(60.0)

    def lose_disk(self) -> None:
        """Delete the data folder of a worker that is not running."""
        shutil.rmtree(self.data, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def is_ready(self) -> bool:
        """Whether it has told that it serves; before, a signal may find nobody who handles it."""
        return self._ready.is_set()

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def tail(self, lines: int = 40) -> str:
        """The last lines it wrote."""
        return "\n".join(self.lines[-lines:])

    async def get(self, client: httpx.AsyncClient, path: str) -> httpx.Response:
        """Ask the worker over HTTP."""
        return await client.get(f"http://{self.address}{path}")

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run a `headrace` command with this worker's settings; exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace", "-A", self.app, *arguments,
            cwd=REPOSITORY, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """These workers, started and ready; whatever is left of them is killed at the end."""
    try:
        for worker in workers:
            await worker.start()
        for worker in workers:
            await worker.until_ready()
        yield
    finally:
        for worker in workers:
            if worker.is_running:
                await worker.kill()


async def positions(client: httpx.AsyncClient, workers: Sequence[Worker]) -> dict[str, int]:
    """How far the partitions that these workers serve are, as /readyz tells: `topic/partition` to offset."""
    found: dict[str, int] = {}
    for worker in workers:
        try:
            answer = await worker.get(client, "/readyz")
        except httpx.TransportError:
            continue
        for partition in json.loads(answer.content)["partitions"].values():
            for place, offset in partition.get("position", {}).items():
                found[place] = max(offset, found.get(place, 0))
    return found


async def until_covered(
    client: httpx.AsyncClient, workers: Sequence[Worker], wanted: Mapping[str, int], timeout_s: float = 60.0
) -> None:
    """Return once the workers' tables contain everything before these offsets.

    Asks again and again: other processes have no way to wake this one.
    """
    missing: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                reached = await positions(client, workers)
                missing = {p: (reached.get(p), o) for p, o in wanted.items() if reached.get(p, 0) < o}
                if not missing:
                    return
                await breath()
    except TimeoutError:
        tails = "\n\n".join(f"{worker.instance}:\n{worker.tail()}" for worker in workers)
        raise AssertionError(f"not covered (reached, wanted): {missing}\n{tails}") from None


async def breath(seconds: float = 0.02) -> None:
    """Leave other processes some time."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return
