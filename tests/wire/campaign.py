"""Many cases at once against one broker, each through a proxy of its own."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.port import TopicSpec
from headrace.settings import Settings
from tests.wire.plans import plan_of
from tests.wire.script import Fault
from tests.wire.story import TASKS_MAX, Case, Place

logger = logging.getLogger(__name__)

AT_ONCE, AT_ONCE_MIN = 24, 3
_SLOW_S = 0.2
"""A broker that takes longer to tell offsets has enough to do; time-outs would be all that happens."""
_TOLD_EVERY = 50
IMPATIENT = Settings(request_timeout_s=5.0, transaction_timeout_s=15.0)


@dataclass
class Tally:
    """What a campaign saw."""

    cases: int = 0
    units: int = 0
    take_overs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Count a case that ended well."""
        self.cases += 1
        self.units += sum(map(len, case.plan.tasks))
        self.take_overs += case.take_overs
        self.faults.update(f"{rule.at.api.name} {rule.fault.name}" for rule in case.struck)
        self.outcomes.update(case.outcomes)

    def __str__(self) -> str:
        kinds = Counter(key.split()[1] for key in self.faults.elements())
        told = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()))
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        return (
            f"{self.cases} cases, {self.units} units, {self.take_overs} take-overs, "
            f"{len(self.failures)} failed\nfaults that struck: {told}\n"
            f"what writers and readers raised: {ends}"
        )


class Pace:
    """How many cases run at once: as many as broker and machine carry now."""

    def __init__(self) -> None:
        self._limit = float(AT_ONCE_MIN)
        self._running = 0
        self._has_room = asyncio.Condition()

    @asynccontextmanager
    async def case(self) -> AsyncIterator[None]:
        """Wait for room, and give it back."""
        async with self._has_room:
            await self._has_room.wait_for(lambda: self._running < int(self._limit))
            self._running += 1
        try:
            yield
        finally:
            async with self._has_room:
                self._running -= 1
                self._has_room.notify_all()

    def note(self, answer_s: float) -> None:
        """Let in one more, or fewer, by how long the broker took for an answer."""
        wanted = self._limit * 0.7 if answer_s > _SLOW_S else self._limit + 1
        self._limit = min(AT_ONCE, max(AT_ONCE_MIN, wanted))


async def places(log: KafkaLog, count: int, stem: str) -> list[Place]:
    """Partitions for so many tasks at once."""
    run = uuid.uuid4().hex[:8]
    names = [f"{stem}-{name}-{run}" for name in ("changelog", "outputs", "receipts")]
    await log.provision([TopicSpec(name=name, partitions=2 * count) for name in names])
    changelog, outputs, receipts = names
    return [
        Place(
            TopicPartition(changelog, each),
            (TopicPartition(outputs, each), TopicPartition(outputs, count + each)),
            TopicPartition(receipts, each),
        )
        for each in range(count)
    ]


async def run_campaign(broker: str, seeds: Sequence[int], stem: str) -> Tally:
    """Run these seeds; what fails is in the tally, with its plan."""
    tally = Tally()
    direct = KafkaLog(Settings(request_timeout_s=120.0), address=broker)
    await direct.open()
    at_once = min(AT_ONCE, len(seeds))
    free = await places(direct, TASKS_MAX * at_once, stem)
    left = iter(seeds)

    pace = Pace()

    async def work(mine: Sequence[Place]) -> None:
        for seed in left:
            case = Case(plan_of(seed), mine, IMPATIENT, broker)
            async with pace.case():
                pace.note(await _answer_s(direct, mine[0]))
                try:
                    await case.run(direct)
                except Exception as error:  # noqa: BLE001  # whatever it is, it is the verdict on this case
                    told = f"{case.plan}; {case.take_overs} take-overs, {dict(case.outcomes)}"
                    tally.failures.append(f"{_named(error)}\n  {told}")
                    logger.error("%s", tally.failures[-1])
                else:
                    tally.add(case)
            if not (tally.cases + len(tally.failures)) % _TOLD_EVERY:
                logger.info("%s", tally)

    try:
        await asyncio.gather(*(work(free[each::at_once]) for each in range(at_once)))
    finally:
        await direct.close()
    return tally


def _named(error: Exception) -> str:
    """What went wrong in the first task that something went wrong in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def _answer_s(log: KafkaLog, place: Place) -> float:
    begun = time.perf_counter()
    await log.offsets(place.all)
    return time.perf_counter() - begun


def struck(tally: Tally, fault: Fault) -> int:
    """How often a kind of fault happened."""
    return sum(count for name, count in tally.faults.items() if name.endswith(f" {fault.name}"))
