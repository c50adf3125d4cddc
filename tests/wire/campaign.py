"""Many cases at once against one broker, each through a proxy of its own."""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.port import TopicSpec
from headrace.settings import Settings
from tests.wire.plans import plan_of
from tests.wire.script import Fault
from tests.wire.story import TASKS_MAX, Case, Place

logger = logging.getLogger(__name__)

AT_ONCE = 24
_TOLD_EVERY = 100
IMPATIENT = Settings(request_timeout_s=5.0, transaction_timeout_s=15.0)
_numbers = itertools.count()


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


async def places(log: KafkaLog, count: int, stem: str) -> list[Place]:
    """Partitions for so many tasks at once."""
    names = [f"{stem}-{name}-{next(_numbers)}" for name in ("changelog", "outputs", "receipts")]
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

    async def work(mine: Sequence[Place]) -> None:
        for seed in left:
            case = Case(plan_of(seed), mine, IMPATIENT, broker)
            try:
                await case.run(direct)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the verdict on this case
                story = f"{case.plan}; {case.take_overs} take-overs, {dict(case.outcomes)}"
                tally.failures.append(f"{type(error).__name__}: {error}\n  {story}")
            else:
                tally.add(case)
            if not (tally.cases + len(tally.failures)) % _TOLD_EVERY:
                logger.info("%s", tally)

    try:
        await asyncio.gather(*(work(free[each::at_once]) for each in range(at_once)))
    finally:
        await direct.close()
    return tally


def struck(tally: Tally, fault: Fault) -> int:
    """How often a kind of fault happened."""
    return sum(count for name, count in tally.faults.items() if name.endswith(f" {fault.name}"))
