"""Five services drawn from a seed: who reads what, who writes what, in how many partitions and groups."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

SERVICES = 5
INPUTS_MAX = 4
PARTITIONS_MAX = 3
ENTRY, NEWS = "entry", "news"
"""Topics that outsiders write to."""


@dataclass(frozen=True)
class Reader:
    """One agent: the topic that it folds, and the topics that it sends on to."""

    name: str
    topic: str
    group: str
    sends: tuple[str, ...]
    refuses: bool
    """Some of the events end as its dead letters."""
    is_global: bool = False
    """It writes a global table, which all other agents of the service look into."""


@dataclass(frozen=True)
class Service:
    """One app with its agents."""

    name: str
    readers: tuple[Reader, ...]
    workers: int
    unit_records_max: int
    late: frozenset[str] = frozenset()
    """Topics that it is far behind with, most of the time."""
    is_restless: bool = False
    """Its workers come and go all the time."""

    @property
    def groups(self) -> Mapping[str, tuple[Reader, ...]]:
        """Its agents by group."""
        names = dict.fromkeys(reader.group for reader in self.readers)
        return {name: tuple(each for each in self.readers if each.group == name) for name in names}

    @property
    def topics(self) -> tuple[str, ...]:
        """Everything that it reads or writes."""
        found = [name for reader in self.readers for name in (reader.topic, *reader.sends)]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Topology:
    """Services, and the topics between them."""

    seed: int
    shape: str
    partitions: Mapping[str, int]
    services: tuple[Service, ...]
    entries: tuple[str, ...]
    """Topics that outsiders write to."""

    def answers(self, topic: str) -> int:
        """How many answers an event of this topic can have, over all that read it."""
        readers = (reader for service in self.services for reader in service.readers)
        return sum(len(reader.sends) for reader in readers if reader.topic == topic)

    def __str__(self) -> str:
        counts = " ".join(f"{name}[{count}]" for name, count in self.partitions.items())
        lines = [f"seed {self.seed}: {self.shape}; topics {counts}; from outside: {', '.join(self.entries)}"]
        for service in self.services:
            lines.append(
                f"  {service.name} ({service.workers} workers, units of {service.unit_records_max}"
                f"{', restless' if service.is_restless else ''})"
            )
            lines += [
                f"    {each.name} in {each.group}: {each.topic} -> {', '.join(each.sends) or 'nothing'}"
                + (" (refuses some)" if each.refuses else "")
                + (" (a global table)" if each.is_global else "")
                for each in service.readers
            ]
        return "\n".join(lines)


@dataclass
class _Wires:
    """What each service reads and writes, before it has agents."""

    reads: list[set[str]] = field(default_factory=lambda: [set() for _ in range(SERVICES)])
    writes: list[set[str]] = field(default_factory=lambda: [set() for _ in range(SERVICES)])
    late: dict[int, frozenset[str]] = field(default_factory=dict)
    restless: set[int] = field(default_factory=set)

    def wire(self, service: int, reads: Sequence[str], writes: Sequence[str]) -> None:
        self.reads[service].update(reads)
        self.writes[service].update(writes)


def _chain(wires: _Wires, rng: Random) -> None:
    """Each reads the one before it; the last ones look back as well."""
    for number in range(SERVICES):
        wires.wire(number, [f"t{number - 1}" if number else ENTRY], [f"t{number}"])
    wires.wire(SERVICES - 1, [ENTRY, f"t{rng.randrange(SERVICES - 2)}"], [])


def _diamond(wires: _Wires, rng: Random) -> None:
    """Two ways from the first to the fourth."""
    wires.wire(0, [ENTRY], ["t0", "t1"])
    wires.wire(1, ["t0"], ["t2"])
    wires.wire(2, ["t1"], ["t3"])
    wires.wire(3, ["t2", "t3"], ["t4"])
    wires.wire(4, ["t4", rng.choice((ENTRY, "t0", "t2"))], [])


def _loop(wires: _Wires, rng: Random) -> None:
    """A ring, with one chord."""
    for number in range(SERVICES):
        wires.wire(number, [f"t{(number - 1) % SERVICES}"], [f"t{number}"])
    wires.wire(0, [ENTRY], [])
    wires.wire(rng.randrange(1, SERVICES), [f"t{rng.randrange(SERVICES)}"], [])


def _relay(wires: _Wires, rng: Random) -> None:
    """D reads A and C, where C read B and B read A."""
    wires.wire(0, [ENTRY], ["a"])
    wires.wire(1, ["a"], ["b"])
    wires.wire(2, ["b"], ["c"])
    wires.wire(3, ["a", "c"], ["d"])
    wires.wire(4, [rng.choice(("a", "b", ENTRY)), "d"], [])


def _selves(wires: _Wires, rng: Random) -> None:
    """Each writes a topic that it reads itself, and its neighbour, too."""
    for number in range(SERVICES):
        wires.wire(number, [ENTRY, f"t{number}"], [f"t{number}", f"t{(number + 1) % SERVICES}"])
        if rng.random() < 0.5:
            wires.reads[number].discard(ENTRY)
    wires.wire(0, [ENTRY], [])


def _memory(wires: _Wires, rng: Random) -> None:
    """D reads A and C; C, which read B, which read A, answers news of which neither knows."""
    wires.wire(0, [ENTRY], ["a"])
    wires.wire(1, ["a"], ["b"])
    wires.wire(2, ["b", NEWS], ["c"])
    wires.wire(3, ["a", "c"], ["d"])
    wires.wire(4, ["a", rng.choice(("c", "d"))], [])
    wires.late = {3: frozenset("a"), 4: frozenset("a")}
    wires.restless = {2}


def _anyhow(wires: _Wires, rng: Random) -> None:
    """Whatever comes."""
    topics = [f"t{number}" for number in range(rng.randint(2, 6))]
    for number in range(SERVICES):
        reads = rng.sample([ENTRY, *topics], rng.randint(1, min(3, len(topics))))
        wires.wire(number, reads, rng.sample(topics, rng.randint(0, 2)))
    wires.wire(rng.randrange(SERVICES), [ENTRY], [topics[0]])


SHAPES: Mapping[str, Callable[[_Wires, Random], None]] = {
    "chain": _chain,
    "diamond": _diamond,
    "loop": _loop,
    "relay": _relay,
    "selves": _selves,
    "memory": _memory,
    "anyhow": _anyhow,
}


def draw(seed: int) -> Topology:
    """The topology of a seed: each shape in turn, with more wires and groups as chance has it."""
    rng = Random(f"topology {seed}")
    shape = list(SHAPES)[seed % len(SHAPES)]
    wires = _Wires()
    SHAPES[shape](wires, rng)
    topics = sorted({name for names in (*wires.reads, *wires.writes) for name in names})
    for number in range(SERVICES):
        if rng.random() < 0.6 and len(wires.reads[number]) < INPUTS_MAX:
            wires.reads[number].add(rng.choice(topics))
        if rng.random() < 0.2:
            wires.writes[number].add(rng.choice([name for name in topics if name not in (ENTRY, NEWS)]))
    usual = rng.randint(1, PARTITIONS_MAX)
    partitions = {name: usual if rng.random() < 0.85 else rng.randint(1, PARTITIONS_MAX) for name in topics}
    services = tuple(
        Service(
            f"s{number}",
            tuple(_agents(sorted(wires.reads[number]), sorted(wires.writes[number]), partitions, rng)),
            rng.choice((1, 1, 2)),
            rng.choice((1, 2, 4, 50)),
            wires.late.get(number, frozenset()),
            number in wires.restless or rng.random() < 0.4,
        )
        for number in range(SERVICES)
    )
    read = sorted({reader.topic for service in services for reader in service.readers})
    news = [NEWS] * 3 if NEWS in read else []
    others = [name for name in read if name not in (ENTRY, NEWS) and rng.random() < 0.4]
    return Topology(seed, shape, partitions, services, (ENTRY, ENTRY, *news, *others))


def _agents(
    reads: Sequence[str], writes: Sequence[str], partitions: Mapping[str, int], rng: Random
) -> Iterator[Reader]:
    """Agents for each topic. Those of one group read topics with the same number of partitions."""
    are_apart = rng.random() < 0.2
    for topic in reads:
        group = "main" if partitions[topic] == partitions[reads[0]] else f"of{partitions[topic]}"
        if are_apart and rng.random() < 0.5:
            group += "_apart"
        for number in range(2 if rng.random() < 0.25 else 1):
            sends = tuple(name for name in writes if rng.random() < 0.8) or tuple(writes[:1])
            yield Reader(f"{topic}_{number}", topic, group, sends, refuses=rng.random() < 0.08)
    if rng.random() < 0.25:
        topic = rng.choice(list(partitions))
        yield Reader(f"{topic}_all", topic, "everywhere", tuple(writes[:1]), refuses=False, is_global=True)
