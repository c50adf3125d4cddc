"""One case of the campaign: units written through a proxy that fails, and what must be read afterwards."""

import asyncio
import random
import time
import uuid
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

BIG = 1 << 24
PATIENCE_S = 240.0


class Place(NamedTuple):
    """The partitions that a case has for itself while it runs."""

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
    shapes: Sequence[Shape]
    rules: Sequence[Rule]
    rivals: frozenset[int]
    """Units whose commit another worker's take-over interrupts."""
    pause_s: float
    """Between two units."""

    def __str__(self) -> str:
        rules = "; ".join(map(str, self.rules))
        units = f"{len(self.shapes)} units, rivals at {sorted(self.rivals)}"
        return f"seed {self.seed}, {self.scheme.name}, {units}: {rules}"


class Torn(AssertionError):
    """What was read is not what was committed."""


class Case:
    """Carries a plan out: a task that takes over, writes units one after the other, and takes over again."""

    def __init__(self, plan: Plan, place: Place, settings: Settings, broker: str) -> None:
        self.plan = plan
        self._place = place
        self._settings = settings
        self._broker = broker
        self._id = f"wire-{plan.seed}-{uuid.uuid4().hex[:8]}"
        self._attempts = 0
        self._acknowledged: dict[int, int] = {}
        self._starts: dict[TopicPartition, int] = {}
        self.take_overs = 0
        self.outcomes: list[str] = []
        self.struck: list[Rule] = []

    async def run(self) -> None:
        """Raises: Torn; TimeoutError when it does not come to an end."""
        async with asyncio.timeout(PATIENCE_S):
            direct = KafkaLog(Settings(), address=self._broker)
            await direct.open()
            try:
                ranges = await direct.offsets(self._place.all)
                self._starts = {place: each.end for place, each in ranges.items()}
                async with Proxy(self._broker, Script(self.plan.rules)) as proxy:
                    self.struck = proxy.script.struck
                    await self._write_all(proxy)
                await self._judge(direct)
            finally:
                await direct.close()

    async def _write_all(self, proxy: Proxy) -> None:
        """As a keeper does: whatever fails recoverably is closed and taken over again."""
        unit = 0
        while unit < len(self.plan.shapes):
            log = KafkaLog(self._settings, address=proxy.address, newest_scheme=self.plan.scheme)
            writers: list[Writer] = []
            try:
                await log.open()
                while unit < len(self.plan.shapes):
                    if not writers:
                        writers.append(await log.writer(self._id))
                        self.take_overs += 1
                        unit = await self._position(log)
                        continue
                    if unit in self.plan.rivals and self._attempts < 3 * len(self.plan.shapes):
                        writers.append(await self._interrupted(log, writers[-1], unit))
                        unit = await self._position(log)
                        # The rival is the owner from here on.
                    if unit < len(self.plan.shapes):
                        await self._commit(writers[-1], unit)
                        unit += 1
                        await asyncio.sleep(self.plan.pause_s)
            except HeadraceError as error:
                if not error.is_recoverable:
                    raise
                self.outcomes.append(type(error).__name__)
            finally:
                await asyncio.gather(*(writer.close() for writer in writers))
                await log.close()

    async def _interrupted(self, log: KafkaLog, owner: Writer, unit: int) -> Writer:
        """Another worker takes over while the owner commits; whatever the owner is told must be true."""
        committing = asyncio.create_task(self._commit(owner, unit), name="owner")
        try:
            return await log.writer(self._id)
        finally:
            (outcome,) = await asyncio.gather(committing, return_exceptions=True)
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, HeadraceError) or not outcome.is_recoverable:
                    raise outcome
                self.outcomes.append(type(outcome).__name__)

    async def _commit(self, writer: Writer, unit: int) -> None:
        self._attempts += 1
        attempt, shape = self._attempts, self.plan.shapes[unit]
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
        found = await self._read(log, self._place.changelog)
        return found[-1].unit + 1 if found else 0

    async def _read(self, log: KafkaLog, place: TopicPartition) -> list[Written]:
        end = (await log.offsets([place]))[place].end
        start = self._starts[place]
        reader = await log.reader({place: start})
        try:
            return await _read_to(reader, start, end)
        finally:
            await reader.close()

    async def _judge(self, log: KafkaLog) -> None:
        """Every unit once, whole, in order, in the attempt that was acknowledged; and nothing else."""
        committed = {place: await self._read(log, place) for place in self._place.all}
        attempts = {each.unit: each.attempt for each in committed[self._place.changelog]}
        for place, found in committed.items():
            expected = [
                Written(unit, attempts.get(unit, -1), index, count)
                for unit, shape in enumerate(self.plan.shapes)
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


async def _read_to(reader: Reader, start: int, end: int) -> list[Written]:
    found: list[Written] = []
    while start < end:
        for chunk in await reader.fetch(records_max=10_000, bytes_max=BIG):
            found += [Written.decode(value) for value in chunk.values]
            start = chunk.offset_next
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
