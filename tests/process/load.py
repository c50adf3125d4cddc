"""A steady load of numbers on every partition, and what the log must hold for it afterwards."""

import asyncio
import re
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import httpx
import msgspec

from headrace.events.position import TopicPartition
from headrace.log.port import Append, Chunk, Log, Writer
from headrace.tables.changelog import POSITION_KEY, PositionRecord
from tests.process.apps.relay import Echoed, Line, Numbered, echoes, lines, numbers
from tests.process.workers import Worker, breath

PARTITIONS = 8
_KEYS_PER_PARTITION = 6
_EVENTS_PER_TICK = 2
_TICK_S = 0.025
TICK_MS = 30
"""What a tick takes on a quiet machine: the wait, and the commit."""
_TOLD = re.compile(r"^\[([^\]]+)\] \[(\d+)\] .*Generation (\d+): this worker owns \d+ tasks(?:: main (.*))?$")


class Commit(NamedTuple):
    """A unit as the changelog has it."""

    unit: int
    time_ms: int
    worker: int
    """Process that committed it."""


class Load:
    """Appends the next numbers of some keys of every partition, tick after tick, and folds them."""

    def __init__(self, writer: Writer) -> None:
        self.ends: dict[str, int] = {}
        """`topic/partition` to the offset after what was appended."""
        self.lines: dict[int, Line] = {}
        self.acknowledged_ms: list[int] = []
        """When each tick was in the log."""
        self._writer = writer
        self._keys: list[list[int]] = [[] for _ in range(PARTITIONS)]
        key = 0
        while any(len(keys) < _KEYS_PER_PARTITION for keys in self._keys):
            keys = self._keys[numbers.partitioner.place(numbers.keys.to_wire(key), PARTITIONS)]
            if len(keys) < _KEYS_PER_PARTITION:
                keys.append(key)
            key += 1

    async def run(self) -> None:
        """Append until cancelled; a tick that has begun is ended."""
        while True:
            begun = asyncio.create_task(self.append(), name="tick")
            try:
                await asyncio.shield(begun)
            finally:
                await asyncio.wait({begun})
            await breath(_TICK_S)

    async def append(self) -> None:
        """Append the numbers of one tick, in one transaction."""
        appends = []
        for partition, keys in enumerate(self._keys):
            records = []
            for at in range(_EVENTS_PER_TICK):
                key = keys[(len(self.acknowledged_ms) * _EVENTS_PER_TICK + at) % len(keys)]
                line = self.lines.get(key, Line())
                number = line.count + 1
                self.lines[key] = line.plus(number, 0)
                value = numbers.values.encode(Numbered(key, number))
                records.append((numbers.keys.to_wire(key), value, (), int(time.time() * 1000)))
            appends.append(Append(numbers.name, partition, records))
        for (topic, partition), end in (await self._writer.commit(appends)).items():
            self.ends[f"{topic}/{partition}"] = end
        self.acknowledged_ms.append(int(time.time() * 1000))

    @property
    def events(self) -> int:
        """How many numbers were appended."""
        return sum(line.count for line in self.lines.values())

    async def check_reads(self, client: httpx.AsyncClient, crew: Sequence[Worker]) -> None:
        """Every line is exact at every worker, whoever owns it."""
        for key, line in self.lines.items():
            answers = [await worker.get(client, f"/lines/{key}") for worker in crew]
            assert {answer.status_code for answer in answers} == {200}, key
            (row,) = {answer.content for answer in answers}
            assert without_worker(msgspec.json.decode(row, type=Line)) == line, key

    async def check_log(self, log: Log) -> list[list[Commit]]:
        """Changelog and outputs are those of each event handled once, in order; the commits by partition."""
        rows: dict[int, Line] = {}
        commits: list[list[Commit]] = []
        for partition in range(PARTITIONS):
            commits.append([])
            await self._fold(log, partition, rows, commits[-1])
            units = [commit.unit for commit in commits[-1]]
            assert units == list(range(1, len(units) + 1)), f"units of partition {partition}"
        assert {key: without_worker(row) for key, row in rows.items()} == self.lines
        passed_on: dict[int, list[int]] = defaultdict(list)
        for partition in range(PARTITIONS):
            for chunk in await read(log, TopicPartition(echoes.name, partition)):
                for key, value in zip(chunk.keys, chunk.values, strict=True):
                    echo = msgspec.json.decode(value or b"", type=Echoed)
                    passed_on[numbers.keys.from_wire(key or b"")].append(echo.number)
        assert passed_on == {key: list(range(1, line.count + 1)) for key, line in self.lines.items()}
        return commits

    async def _fold(self, log: Log, partition: int, rows: dict[int, Line], commits: list[Commit]) -> None:
        workers: set[int] = set()
        offset_next = 0
        for chunk in await read(log, TopicPartition("relay.main.changelog", partition)):
            for key, value, time_ms in zip(chunk.keys, chunk.values, chunk.timestamps_ms, strict=True):
                if key != POSITION_KEY:
                    line = msgspec.json.decode(value or b"", type=Line)
                    rows[lines.keys.from_store((key or b"")[len(lines.row_prefix) :])] = line
                    workers.add(line.worker)
                    continue
                record = msgspec.json.decode(value or b"", type=PositionRecord)
                assert record.inputs[numbers.name].offset_next > offset_next, (partition, record)
                offset_next = record.inputs[numbers.name].offset_next
                (worker,) = workers
                commits.append(Commit(record.unit, time_ms, worker))
                workers = set()

    def pauses(self, commits: Sequence[Sequence[Commit]], shares: "Shares") -> list["Pause"]:
        """How long events lay in the log between two commits of a partition that stayed, longest first."""
        found = []
        for partition, of_partition in enumerate(commits):
            for before, after in pairwise(of_partition):
                first = bisect_right(self.acknowledged_ms, before.time_ms)
                last = bisect_right(self.acknowledged_ms, after.time_ms)
                if first < last and shares.has_stayed(partition, before, after):
                    pause_ms = after.time_ms - self.acknowledged_ms[first]
                    found.append(Pause(min(pause_ms, (last - first) * TICK_MS), pause_ms))
        return sorted(found, reverse=True)


class Pause(NamedTuple):
    """A time in which a partition had events and committed none."""

    counted_ms: int
    """At most `TICK_MS` for each transaction that the load has done meanwhile on the same broker: a
    machine that stands still for everybody does not count."""
    elapsed_ms: int


class Shares:
    """Which partitions each process owned when, from what the workers told."""

    def __init__(self, crew: Sequence[Worker]) -> None:
        self._told: dict[int, list[tuple[float, frozenset[int]]]] = defaultdict(list)
        self.generations: set[int] = set()
        for match in (_TOLD.search(line) for worker in crew for line in worker.lines):
            if match is not None:
                moment, process, generation, runs = match.groups()
                time_ms = datetime.strptime(moment, "%Y-%m-%d %H:%M:%S,%f").timestamp() * 1000
                self._told[int(process)].append((time_ms, _partitions(runs or "")))
                self.generations.add(int(generation))

    def has_stayed(self, partition: int, before: Commit, after: Commit) -> bool:
        """Whether the process that committed both owned the partition all the time between."""
        told = self._told[before.worker]
        return before.worker == after.worker and all(
            partition in owned for time_ms, owned in told if before.time_ms <= time_ms <= after.time_ms
        )


def shares_told(lines: Sequence[str]) -> list[tuple[int, frozenset[int]]]:
    """Each generation that a worker told of, and the partitions it owned in it."""
    matches = (_TOLD.search(line) for line in lines)
    return [(int(match[3]), _partitions(match[4] or "")) for match in matches if match is not None]


def _partitions(runs: str) -> frozenset[int]:
    found: set[int] = set()
    for run in runs.split():
        first, _, last = run.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def moves_ms(commits: Sequence[Sequence[Commit]]) -> list[int]:
    """How long the partitions that moved were without a commit, longest first."""
    return sorted(
        (
            after.time_ms - before.time_ms
            for of_partition in commits
            for before, after in pairwise(of_partition)
            if before.worker != after.worker
        ),
        reverse=True,
    )


async def read(log: Log, place: TopicPartition) -> list[Chunk]:
    """Every committed record of a partition."""
    held = (await log.offsets([place]))[place]
    chunks: list[Chunk] = []
    offset_next = held.start
    reader = await log.reader({place: offset_next})
    try:
        while offset_next < held.end:
            for chunk in await reader.fetch(records_max=5_000, bytes_max=4 << 20):
                chunks.append(chunk)
                offset_next = chunk.offset_next
    finally:
        await reader.close()
    return chunks


def without_worker(line: Line) -> Line:
    """The line as the load knows it."""
    return Line(line.count, line.total, line.digest, 0)
