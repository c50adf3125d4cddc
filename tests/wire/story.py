"""One case of the campaign: units written through a proxy that fails, and what must be read afterwards."""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.errors import HeadraceError
from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Append, Closing, Outgoing, Reader, Writer
from headrace.settings import Settings
from tests.wire.proxy import Proxy
from tests.wire.script import Rule, Script

TASKS_MAX = 3
_BIG = 1 << 24
_PATIENCE_S = 240.0


class Place(NamedTuple):
    """The partitions that a task has for itself while its case runs."""

    changelog: TopicPartition
    outputs: tuple[TopicPartition, TopicPartition]
    receipts: TopicPartition
    """Where closing records go."""

    @property
    def all(self) -> tuple[TopicPartition, ...]:
        return (self.changelog, *self.outputs, self.receipts)


class Written(NamedTuple):
    """What every record tells of itself."""

    unit: int
    attempt: int
    place: int
    """Among the records of its unit in its partition."""
    places: int

    def encode(self) -> bytes:
        return b"%d %d %d %d" % self

    @staticmethod
    def decode(value: bytes | None) -> "Written":
        return Written(*map(int, (value or b"").split()))


class Shape(NamedTuple):
    """How large a unit is, by topic."""

    rows: int
    outputs: tuple[int, int]
    has_receipt: bool


class Plan(NamedTuple):
    """A whole case, made from its seed."""

    seed: int
    scheme: Scheme
    tasks: Sequence[Sequence[Shape]]
    """The units of each task; the tasks share the connections of one worker."""
    rules: Sequence[Rule]
    rivals: frozenset[int]
    """Units whose commit another worker's take-over interrupts."""
    pause_s: float
    """Between two units."""

    def __str__(self) -> str:
        units = f"{'+'.join(str(len(task)) for task in self.tasks)} units, rivals at {sorted(self.rivals)}"
        return f"seed {self.seed}, {self.scheme.name}, {units}: {'; '.join(map(str, self.rules))}"


class Torn(AssertionError):
    """What was read is not what was committed."""


class Case:
    """Carries a plan out: one worker whose tasks write through a proxy."""

    def __init__(self, plan: Plan, places: Sequence[Place], settings: Settings, broker: str) -> None:
        self.plan = plan
        self.struck: Sequence[Rule] = ()
        self._failed: Counter[str] = Counter()
        self._settings = settings
        self._broker = broker
        used = places[: len(plan.tasks)]
        self._tasks = [_Task(plan, units, place) for units, place in zip(plan.tasks, used, strict=True)]

    @property
    def outcomes(self) -> Counter[str]:
        """What writers and readers raised."""
        return sum((task.outcomes for task in self._tasks), start=self._failed)

    @property
    def take_overs(self) -> int:
        """How often a task began."""
        return sum(task.take_overs for task in self._tasks)

    async def run(self, direct: KafkaLog) -> None:
        """Begin and judge over a log that nothing disturbs. Raises: Torn, TimeoutError."""
        async with asyncio.timeout(_PATIENCE_S):
            for task in self._tasks:
                await task.begin(direct)
            async with Proxy(self._broker, Script(self.plan.rules)) as proxy:
                self.struck = proxy.script.struck
                await self._work(proxy)
            for task in self._tasks:
                await task.judge(direct)

    async def _work(self, proxy: Proxy) -> None:
        scheme = self.plan.scheme
        log = KafkaLog(self._settings, address=proxy.address, newest_scheme=scheme, lanes_max=1)
        is_open = False
        while not is_open:
            try:
                await log.open()
                is_open = True
            except HeadraceError as error:
                self._note(error)
        try:
            async with asyncio.TaskGroup() as group:
                for number, task in enumerate(self._tasks):
                    group.create_task(task.run(log), name=f"task {number}")
        finally:
            await log.close()

    def _note(self, error: HeadraceError) -> None:
        if not error.is_recoverable:
            raise error
        self._failed[type(error).__name__] += 1


class _Task:
    """Takes over, writes units one after the other, and takes over again whenever that fails."""

    def __init__(self, plan: Plan, units: Sequence[Shape], place: Place) -> None:
        self._plan = plan
        self._units = units
        self._place = place
        self._id = f"wire-{plan.seed}-{uuid.uuid4().hex[:8]}"
        self._attempts = 0
        self._acknowledged: dict[int, int] = {}
        self._starts: dict[TopicPartition, int] = {}
        self.take_overs = 0
        self.outcomes: Counter[str] = Counter()

    async def begin(self, log: KafkaLog) -> None:
        """Note where its partitions end now."""
        ranges = await log.offsets(self._place.all)
        self._starts = {place: each.end for place, each in ranges.items()}

    async def run(self, log: KafkaLog) -> None:
        """As a keeper does: whatever fails recoverably is closed and taken over again."""
        unit = 0
        while unit < len(self._units):
            writers: list[Writer] = []
            try:
                writers.append(await log.writer(self._id))
                self.take_overs += 1
                unit = await self._position(log)
                while unit < len(self._units):
                    if unit in self._plan.rivals and self._attempts < 3 * len(self._units):
                        # From here on the other worker is the owner.
                        writers.append(await self._interrupted(log, writers[-1], unit))
                        unit = await self._position(log)
                    if unit < len(self._units):
                        await self._commit(writers[-1], unit)
                        unit += 1
                        await asyncio.sleep(self._plan.pause_s)
            except HeadraceError as error:
                self._note(error)
            finally:
                await asyncio.gather(*(writer.close() for writer in writers))

    def _note(self, error: HeadraceError) -> None:
        if not error.is_recoverable:
            raise error
        self.outcomes[type(error).__name__] += 1

    async def _interrupted(self, log: KafkaLog, owner: Writer, unit: int) -> Writer:
        """Another worker takes over while the owner commits; whatever the owner is told must be true."""
        committing = asyncio.create_task(self._commit(owner, unit), name="owner")
        try:
            return await log.writer(self._id)
        finally:
            (outcome,) = await asyncio.gather(committing, return_exceptions=True)
            if isinstance(outcome, HeadraceError):
                self._note(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _commit(self, writer: Writer, unit: int) -> None:
        self._attempts += 1
        attempt, shape = self._attempts, self._units[unit]
        appends = [_append(self._place.changelog, unit, attempt, shape.rows)]
        appends += [
            _append(place, unit, attempt, count)
            for place, count in zip(self._place.outputs, shape.outputs, strict=True)
        ]
        closing = None
        if shape.has_receipt:
            topic, partition = self._place.receipts
            closing = Closing(topic, partition, lambda _: _records(unit, attempt, 1))
        await writer.commit(appends, closing)
        if unit in self._acknowledged:
            raise Torn(f"unit {unit} was acknowledged twice")
        self._acknowledged[unit] = attempt

    async def _position(self, log: KafkaLog) -> int:
        """The unit that comes next, as the changelog tells a new owner."""
        changelog = self._place.changelog
        found = (await self._read(log, [changelog]))[changelog]
        return found[-1].unit + 1 if found else 0

    async def _read(
        self, log: KafkaLog, places: Sequence[TopicPartition]
    ) -> dict[TopicPartition, list[Written]]:
        ends = {place: each.end for place, each in (await log.offsets(places)).items()}
        starts = {place: self._starts[place] for place in places}
        reader = await log.reader(starts)
        try:
            return await _read_to(reader, starts, ends)
        finally:
            await reader.close()

    async def judge(self, log: KafkaLog) -> None:
        """Every unit once, whole, in order, as it was acknowledged; nothing else. Raises: Torn."""
        committed = await self._read(log, self._place.all)
        attempts = {each.unit: each.attempt for each in committed[self._place.changelog]}
        for place, found in committed.items():
            expected = [
                Written(unit, attempts.get(unit, -1), index, count)
                for unit, shape in enumerate(self._units)
                for count in [self._count(place, shape)]
                for index in range(count)
            ]
            if found != expected:
                raise Torn(f"{place.topic} holds {found}, and {expected} is what was committed")
        wrong = {unit: at for unit, at in self._acknowledged.items() if attempts[unit] != at}
        if wrong:
            raise Torn(f"acknowledged were {wrong}, and the log has {attempts}")

    def _count(self, place: TopicPartition, shape: Shape) -> int:
        counts: Mapping[TopicPartition, int] = {
            self._place.changelog: shape.rows,
            self._place.outputs[0]: shape.outputs[0],
            self._place.outputs[1]: shape.outputs[1],
            self._place.receipts: int(shape.has_receipt),
        }
        return counts[place]


async def _read_to(
    reader: Reader, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[Written]]:
    found: dict[TopicPartition, list[Written]] = {place: [] for place in starts}
    left = {place for place, start in starts.items() if start < ends[place]}
    while left:
        for chunk in await reader.fetch(records_max=10_000, bytes_max=_BIG):
            place = TopicPartition(chunk.topic, chunk.partition)
            found[place] += [Written.decode(value) for value in chunk.values]
            if chunk.offset_next >= ends[place]:
                left.discard(place)
    return found


def _append(place: TopicPartition, unit: int, attempt: int, count: int) -> Append:
    return Append(place.topic, place.partition, _records(unit, attempt, count))


def _records(unit: int, attempt: int, count: int) -> list[Outgoing]:
    now_ms = int(time.time() * 1000)
    return [
        (b"%d" % index, Written(unit, attempt, index, count).encode(), (), now_ms) for index in range(count)
    ]


def shapes(chance: random.Random, units: int) -> list[Shape]:
    """Units of different sizes; every one has a row, which tells the position."""
    return [
        Shape(
            chance.choice([1, 3, 20]),
            (chance.choice([0, 1, 5]), chance.choice([0, 0, 2])),
            chance.random() < 0.3,
        )
        for _ in range(units)
    ]
