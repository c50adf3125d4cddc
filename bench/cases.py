"""What is compared beside the plain job, who takes part in it, and the ratios that are to be reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.contenders import AIOKAFKA_LOOP, CONTENDERS, HEADRACE_KAFKA
from bench.orders import Orders

_STREAMS = (HEADRACE_KAFKA, "kafka-streams")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One job on one kind of topic."""

    name: str
    what: str
    contenders: tuple[str, ...] = (HEADRACE_KAFKA,)
    job: str = "table"
    partitions: int = 1
    workers: int = 1
    is_held_back: bool = False
    is_each_new: bool = False
    articles: int = 10_000
    note_bytes: int = 0
    at_least: Mapping[str, float] = field(default_factory=dict)
    """Contender to the ratio of rates that headrace is to reach."""
    cpu_at_least: Mapping[str, float] = field(default_factory=dict)
    """The same of events per CPU second."""
    beside: str = ""
    """The case whose headrace it is compared with."""
    beside_at_least: float = 0.0
    beside_cpu_at_least: float = 0.0

    def orders(self, events: int) -> Orders:
        """The events of a run."""
        return Orders(
            events, articles=self.articles, is_each_new=self.is_each_new, note_bytes=self.note_bytes
        )


PLAIN = "plain"
CASES = {
    case.name: case
    for case in (
        Case(
            name=PLAIN,
            what="orders of 100 bytes, 10,000 articles, 1 partition",
            contenders=tuple(CONTENDERS),
            at_least={
                "faust-streaming": 60,
                "quix-streams": 3.5,
                "kafka-streams": 2,
                AIOKAFKA_LOOP: 0.3,
                "headrace-embedded": 0,
            },
            cpu_at_least={"kafka-streams": 3},
        ),
        Case(
            name="partitions",
            what="the same on 4 partitions in one worker",
            partitions=4,
            beside=PLAIN,
            beside_at_least=0.9,
        ),
        Case(
            name="keys",
            what="every order of another article: a million rows",
            contenders=_STREAMS,
            articles=1_000_000,
            is_each_new=True,
            at_least={"kafka-streams": 1.2},
        ),
        Case(
            name="large",
            what="orders of 1 KB",
            contenders=_STREAMS,
            note_bytes=900,
            at_least={"kafka-streams": 1.2},
        ),
        Case(
            name="outputs",
            what="an event sent for each order",
            contenders=_STREAMS,
            job="outputs",
            at_least={"kafka-streams": 1.5},
        ),
        Case(name="agents", what="two agents, a row each", job="agents", beside=PLAIN),
        Case(name="one-worker", what="4 partitions, one worker", partitions=4, is_held_back=True),
        Case(
            name="two-workers",
            what="4 partitions, two workers",
            partitions=4,
            workers=2,
            is_held_back=True,
            beside="one-worker",
            beside_cpu_at_least=0.85,
        ),
    )
}
