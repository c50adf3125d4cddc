"""The job on headrace: one or more workers, and what is read from their HTTP."""

import asyncio
import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.course import Course, Measurement
from bench.environments import this_python
from bench.process import Program
from headrace.events.position import TopicPartition
from headrace.log.connect import connect
from headrace.log.stretch import chunks
from headrace.settings import Settings

_POLL_S = 0.05
_START_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 900.0
_PAGE_ROWS = 1_000
_QUIET_S, _QUIET_SHARE = 1.0, 0.05
_ROOT = Path(__file__).parents[1]
TOKEN = "a client of the comparison"
"""What every request shows; workers of a run that asks for no token do not look at it."""
_PEER_SECRET = "what the workers of a comparison share"


class Worker:
    """A running worker of the job, and its port."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port

    def events(self) -> int:
        """How many events are in committed units, of the agent that is behind."""
        try:
            return min(json.loads(get(self.port, "/events")), default=0)
        except (OSError, ValueError):  # not listening, or not running yet
            return 0

    def partitions(self) -> int:
        """How many partitions it serves."""
        return self.states().count("serving")

    def states(self) -> list[str]:
        """The state of each partition it has, in order; none as long as it does not answer."""
        try:
            told = json.loads(get(self.port, "/readyz", statuses=(200, 503)))
        except OSError:
            return []
        return [told["partitions"][name]["state"] for name in sorted(told["partitions"])]


def on_kafka(course: Course) -> Measurement:
    """One run on Kafka. Several workers find nothing in their topic until each has its partitions."""
    with ExitStack() as stack:
        log = f"kafka://{course.broker}"
        if not course.is_held_back:
            return _measure([start(stack, course, log)], course)
        held_back = stack.enter_context(_held_back(course))
        held_back.told("filled", timeout_s=_START_TIMEOUT_S)
        crew = [start(stack, course, log, number) for number in range(course.workers)]
        share = course.partitions // course.workers
        until(crew, lambda: all(worker.partitions() == share for worker in crew), _RUN_TIMEOUT_S)
        _until_quiet(crew)
        held_back.ask()
        return _measure(crew, course)


def on_embedded_log(course: Course) -> Measurement:
    """One run on a copy of an embedded log."""
    shutil.copytree(course.embedded, course.folder / "log")
    with ExitStack() as stack:
        log = f"embedded://{course.folder / 'log' / 'log.db'}"
        return _measure([start(stack, course, log)], course)


def _held_back(course: Course) -> Program:
    """A program that fills the course's topic, and shows its events when it is asked to."""
    arguments = [course.broker, course.topic, str(course.partitions), str(course.orders.events)]
    command = [this_python(), "-m", "bench.filling", *arguments]
    return Program(command, log=course.folder / "filling.txt", folder=_ROOT)


def start(
    stack: ExitStack, course: Course, log: str, number: int = 0, *, more: Mapping[str, str] | None = None
) -> Worker:
    """Start a worker of the job, with more settings if need be, which ends with the stack."""
    port = free_port()
    environment = {
        "HEADRACE_LOG": log,
        "HEADRACE_DATA": str(course.folder / f"data-{number}"),
        "HEADRACE_HTTP": f"127.0.0.1:{port}",
        "HEADRACE_PEER_SECRET": _PEER_SECRET,
        "BENCH_APP": course.run,
        "BENCH_TOPIC": course.topic,
        "BENCH_JOB": course.job,
        "BENCH_PARTITIONS": str(course.partitions),
        **(more or {}),
    }
    command = [this_python(), "-m", "headrace", "-A", "bench.jobs.orders", "worker", "-l", "warn"]
    output = course.folder / f"worker-{number}.txt"
    program = stack.enter_context(Program(command, log=output, folder=_ROOT, environment=environment))
    return Worker(program, port)


def _measure(crew: Sequence[Worker], course: Course) -> Measurement:
    events = course.orders.events
    until(crew, lambda: sum(worker.events() for worker in crew) >= 1, _START_TIMEOUT_S)
    until(crew, lambda: sum(worker.events() for worker in crew) >= events, _RUN_TIMEOUT_S)
    ended = time.monotonic()
    cpu_seconds = sum(worker.program.cpu_seconds() for worker in crew)
    rss_mib = max(worker.program.rss_mib() for worker in crew)
    firsts = [json.loads(get(worker.port, "/first")) for worker in crew]
    return Measurement(
        events=events,
        seconds=ended - min(first["first"] for first in firsts),
        cpu_seconds=cpu_seconds - sum(first["cpu"] for first in firsts),
        total=sum(_served(crew[0].port)),
        rss_mib=rss_mib,
        outputs=asyncio.run(outputs(course)),
        loop_late_ms=_lateness(json.loads(get(crew[0].port, "/late"))),
    )


def until(crew: Sequence[Worker], is_so: Callable[[], bool], timeout_s: float) -> None:
    """Look again and again until it is so. Raises: ProgramFailed when a worker has ended, or the time has."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        for worker in crew:
            worker.program.check_running()
        if time.monotonic() > deadline:
            raise crew[0].program.failure(f"did not come as far as it should within {timeout_s:g} s")
        time.sleep(_POLL_S)


def until_served(worker: Worker, timeout_s: float) -> None:
    """Wait until its one partition is served. Raises: ProgramFailed."""
    until([worker], lambda: worker.partitions() == 1, timeout_s)


def _until_quiet(crew: Sequence[Worker]) -> None:
    """Wait until the workers have nothing to do: after a restore RocksDB goes on to compact for a while."""

    def spent() -> float:
        return sum(worker.program.cpu_seconds() for worker in crew)

    before = spent()
    time.sleep(_QUIET_S)
    while (now := spent()) - before > _QUIET_S * _QUIET_SHARE:
        before = now
        time.sleep(_QUIET_S)


def _served(port: int) -> Iterator[int]:
    """Every quantity there is, read page by page."""
    query = f"limit={_PAGE_ROWS}"
    while True:
        page = json.loads(get(port, f"/quantities?{query}"))
        yield from (int(row["value"]) for row in page["rows"])
        if not page.get("cursor"):
            return
        query = f"limit={_PAGE_ROWS}&cursor={page['cursor']}"


def _lateness(buckets: Sequence[tuple[str, int]]) -> tuple[float, float]:
    """Upper bounds of p50 and p99 in milliseconds."""
    count = buckets[-1][1]
    p50, p99 = (
        next(float(bound) for bound, reached in buckets if reached >= share * count) for share in (0.5, 0.99)
    )
    return p50 * 1000, p99 * 1000


async def outputs(course: Course) -> int | None:
    """How many committed events the run has sent; None where it is to send none."""
    if course.job != "outputs":
        return None
    log = connect(Settings(log=f"kafka://{course.broker}"))
    await log.open()
    try:
        count = 0
        places = [TopicPartition(course.outputs_topic, at) for at in range(course.partitions)]
        for place, held in (await log.offsets(places)).items():
            async for chunk in chunks(log, place, held.start, held.stable):
                count += len(chunk)
        return count
    finally:
        await log.close()


def get(port: int, path: str, *, statuses: Sequence[int] = (200,)) -> Any:
    """The body of an answer. Raises: OSError; ValueError for another status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status not in statuses:
        raise ValueError(f"GET {path} answered {response.status}: {body[:500]!r}")
    return body


def is_listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
