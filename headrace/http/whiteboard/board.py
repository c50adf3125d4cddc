"""What is on the whiteboard: a service as plain data, without any drawing."""

import msgspec


class TopicCard(msgspec.Struct, frozen=True, kw_only=True):
    """A topic that the service reads from or sends to."""

    name: str
    partitions: int
    groups: tuple[str, ...] = ()
    """Groups of this service that read it; none: it is only sent to."""
    is_sent: bool = False
    """Whether an agent or route of this service sends to it."""
    events_read: int = 0
    """Events that this worker finished since it started."""
    events_sent: int = 0
    lag: int = 0
    """Offsets between the end of the owned partitions and their positions."""


class AgentCard(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, and what its code names."""

    name: str
    group: str
    topic: str
    about: str = ""
    """The first line of its docstring."""
    reads: tuple[str, ...] = ()
    """Tables it reads and does not write."""
    writes: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    """Topics it sends to."""
    events: int = 0
    retries: int = 0
    dead_letters: int = 0


class TableCard(msgspec.Struct, frozen=True, kw_only=True):
    """A table; the path is empty when it is not served."""

    name: str
    group: str
    path: str = ""
    about: str = ""
    rows: int | None = None
    """Rows of this worker's partitions; None while they are being restored or not counted."""
    is_counted: bool = True
    """False: the count goes on, and `rows` is what it has come to so far."""


class RouteCard(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of the app's own."""

    path: str
    methods: tuple[str, ...]
    sends: tuple[str, ...] = ()


class HeldCard(msgspec.Struct, frozen=True, kw_only=True):
    """An input whose next event waits for what its sender had seen."""

    topic: str
    offset: int
    """Of the event that waits."""
    since_s: float
    """When it was found to wait, in seconds since the epoch."""
    for_s: float
    waits_for: dict[str, int]
    """`topic/partition` to the next offset that has to be reached."""


class PartitionCard(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a group."""

    group: str
    number: int
    state: str
    """`serving`, `restoring`, `stopped`, or `elsewhere` when another worker has it."""
    offsets: dict[str, int] = {}
    """Next offset by input topic."""
    lags: dict[str, int] = {}
    restored: int = 0
    """Changelog records read."""
    to_restore: int = 0
    error: str = ""
    """Name of the error that stopped it."""
    held: tuple[HeldCard, ...] = ()
    """Inputs that wait for others; never without others that go on."""

    @property
    def lag(self) -> int:
        """Over all inputs."""
        return sum(self.lags.values())


class ShadowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A row in which a table and the database differ at one position."""

    key: str
    position: dict[str, int]
    """`topic/partition` to the next offset: both sides contain what is before."""
    in_table: str | None
    """What the table holds; None: no row."""
    in_database: str | None
    at_s: float
    """When it was found, in seconds since the epoch."""


class ShadowCard(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the reads of a table that the old database was asked, too."""

    table: str
    compared: int = 0
    agreed: int = 0
    differing: int = 0
    waiting: int = 0
    dropped: int = 0
    """Sampled when as many waited as may."""
    undecided: int = 0
    """Not seen at one position in time."""
    failed: int = 0
    differences: tuple[ShadowDifference, ...] = ()
    """The newest ones, the newest first."""


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """One service as one of its workers sees it."""

    app: str
    instance: str
    state: str
    topics: tuple[TopicCard, ...] = ()
    agents: tuple[AgentCard, ...] = ()
    tables: tuple[TableCard, ...] = ()
    routes: tuple[RouteCard, ...] = ()
    partitions: tuple[PartitionCard, ...] = ()
    dead_letters: int = 0
    """Since this worker started."""
    dead_letters_topic: str = ""
    shadows: tuple[ShadowCard, ...] = ()

    @property
    def shape(self) -> str:
        """The same text for boards that differ in figures only."""
        return "\n".join(
            [self.app, self.instance]
            + [f"topic {t.name} {t.partitions} {t.groups} {t.is_sent}" for t in self.topics]
            + [f"agent {a.name} {a.topic} {a.reads} {a.writes} {a.sends}" for a in self.agents]
            + [f"table {t.name} {t.group} {t.path}" for t in self.tables]
            + [f"route {r.path} {r.methods} {r.sends}" for r in self.routes]
            + [f"task {p.group} {p.number}" for p in self.partitions]
            # What differs is listed when the page is drawn.
            + [f"shadow {s.table} {len(s.differences)}" for s in self.shadows]
        )

    @property
    def lag(self) -> int:
        """Over all partitions that this worker has."""
        return sum(card.lag for card in self.partitions)
