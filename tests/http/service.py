"""A running worker as the HTTP layer sees one: real stores and views, without a log behind them."""

from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import httpx
import msgspec

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import HeadraceError, Unavailable
from headrace.events.key import key_codec
from headrace.events.partitioner import Partitioner
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.members import Peer
from headrace.flow.outgate import Gate
from headrace.flow.requests.reception import Reception
from headrace.http.application import build_application
from headrace.http.metric import Sample
from headrace.http.source import Sent, ServedTable, Shadowing, UserRoute, WorkerState
from headrace.http.waiting import Waits
from headrace.http.whiteboard.board import AgentCard, Board, TableCard, TopicCard
from headrace.http.whiteboard.survey import partition_card
from headrace.log.inquiry import Inquiry
from headrace.log.port import OffsetRange, TopicInfo, TopicSpec, catalog
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.settings import Settings
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import PartitionView
from headrace.vitals import Trouble
from tests.http.judged import Judged

GROUP = "main"
NOW_S = 1_000.0
"""The time of every board."""
INPUT = "checkout.events"


class Outbox:
    """What one request sent."""

    def __init__(self) -> None:
        self.pending: list[str] = []
        self.position = Position()
        self.seen = NOTHING_SEEN
        """What the request has brought along, as far as it is believed."""


class Questioned(SimulatedCluster):
    """The topics of the service; counts what it is asked, and a test may say where a transaction is open."""

    def __init__(self) -> None:
        super().__init__("cluster-1")
        self.questions: list[TopicPartition] = []
        self.is_down = False
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens while it is asked."""
        self.open_at: dict[TopicPartition, int] = {}

    def range(self, place: TopicPartition) -> OffsetRange:
        self.questions.append(place)
        self.meanwhile()
        if self.is_down:
            raise Unavailable("nobody there")
        held = super().range(place)
        return held._replace(stable=self.open_at.get(place, held.stable))


class CountedLog(SimulatedLog):
    """Counts how often all topics are asked for."""

    listings = 0

    async def topics(self) -> Sequence[TopicInfo]:
        self.listings += 1
        return await super().topics()


class Service:
    """One worker that owns all partitions of its group; rows are put where an agent would put them."""

    def __init__(
        self,
        *tables: ServedTable,
        routes: Sequence[UserRoute] = (),
        settings: Settings | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.app_id = "loyalty"
        self.settings = settings or Settings(http="127.0.0.1:0")
        self.state = WorkerState.RUNNING
        self.trouble: Trouble | None = None
        self.instance = "worker-1"
        self.reached_at = ""
        self.peers: dict[int, Peer] = {}
        """Who owns the partitions that are elsewhere."""
        partitions = max((table.partitions for table in tables), default=1)
        self.cluster = Questioned()
        infos = self.cluster.provision(
            [TopicSpec(name=INPUT, partitions=partitions), TopicSpec(name="out", partitions=1)]
        )
        log = self.simulated = CountedLog(self.cluster)
        self.catalog = catalog(log, infos)
        self.inquiry = Inquiry(log, clock)
        self.inquiry.know(infos.values())
        self.waits = Waits(self.inquiry, self.settings, clock)
        self.served_tables = tables
        self.user_routes = routes
        self.shadows: dict[str, Shadowing] = {}
        self.reception: Reception | None = None
        self.samples: list[Sample] = []
        self.log: list[str] = []
        """What was committed by requests."""
        self.commit_failure: HeadraceError | None = None
        self.events_finished = 0
        """What the agents have done."""
        self._outbox: Outbox | None = None
        engine = MemoryEngine()
        self.owned: dict[int, PartitionView] = {}
        for partition in range(partitions if tables else 0):
            self.owned[partition] = view = PartitionView(GROUP, partition)
            view.serve(engine.open(GROUP, partition), self.position(partition, 0))

    @staticmethod
    def position(partition: int, offset_next: int) -> Position:
        """The position of a task that has read its input up to here."""
        return Position({TopicPartition(INPUT, partition): offset_next})

    def append(self, partition: int, offset_next: int, *, topic: str = INPUT) -> None:
        """Let a partition of a topic reach up to here, whoever reads it."""
        held = self.cluster.partition(TopicPartition(topic, partition))
        held.end = max(held.end, offset_next)

    def partition(self, table: ServedTable, key: Any) -> int:
        """Where a key lives."""
        return table.partitioner.place(table.keys.to_wire(key), table.partitions)

    def put(self, table: ServedTable, key: Any, value: Any, *, offset_next: int = 1) -> PartitionView:
        """Commit a unit that sets one row (None: deletes it), and publish it."""
        view = self.owned[self.partition(table, key)]
        self.append(view.partition, offset_next)
        row = None if value is None else msgspec.json.encode(value)
        store_key = table.row_prefix + table.keys.to_store(key)
        view.publish({store_key: row}, self.position(view.partition, offset_next))
        return view

    def view(self, group: str, partition: int) -> PartitionView | None:
        return self.owned.get(partition) if group == GROUP else None

    @property
    def teller(self) -> None:
        return None

    def followed(self) -> Sequence[PartitionView]:
        return []

    def peer(self, group: str, partition: int) -> Peer | None:
        if self.view(group, partition) is not None:
            return Peer(self.instance, self.reached_at, True)
        return self.peers.get(partition)

    def views(self) -> Sequence[PartitionView]:
        return list(self.owned.values())

    def figures(self) -> Sequence[Sample]:
        return self.samples

    def board(self) -> Board:
        groups = {table.group: table.partitions for table in self.served_tables}
        topic = TopicCard(
            name=INPUT, partitions=len(self.owned), groups=(GROUP,), events_read=self.events_finished
        )
        return Board(
            app=self.app_id,
            instance="worker-1",
            state=self.state.value,
            topics=(topic,),
            agents=(AgentCard(name="earn", group=GROUP, topic=INPUT, events=self.events_finished),),
            tables=tuple(TableCard(name=t.name, group=t.group, path=t.path) for t in self.served_tables),
            partitions=tuple(
                partition_card(group, number, self.view(group, number), [INPUT], NOW_S)
                for group, size in groups.items()
                for number in range(size)
            ),
            dead_letters_topic="loyalty.dead-letters",
        )

    def send(self, event: str) -> None:
        """What an endpoint calls."""
        assert self._outbox is not None
        self._outbox.pending.append(event)

    def sending(
        self, gate: Gate | None = None, seen: Seen = NOTHING_SEEN
    ) -> AbstractAsyncContextManager[Sent]:
        return self._sending(seen)

    @asynccontextmanager
    async def _sending(self, seen: Seen) -> AsyncIterator[Sent]:
        outbox = self._outbox = Outbox()
        outbox.seen = seen
        yield outbox
        if self.commit_failure is not None:
            raise self.commit_failure
        self.log += outbox.pending
        if outbox.pending:
            outbox.position = Position({TopicPartition("out", 0): len(self.log)})


def served(name: str, key_type: Any, *, partitions: int = 4) -> ServedTable:
    """A table with its rows at the path of its name."""
    return ServedTable(
        path=f"/{name}",
        name=name,
        group=GROUP,
        keys=key_codec(key_type),
        partitioner=Partitioner.MURMUR2,
        partitions=partitions,
        row_prefix=name.encode() + b"\0",
    )


def client(service: Service, **options: Any) -> httpx.AsyncClient:
    """A client that calls the application without a network in between."""
    transport = httpx.ASGITransport(Judged(service, build_application(service, **options)))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


class Answer(NamedTuple):
    """What the application sent, as it sent it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(service: Service, target: bytes, *headers: tuple[bytes, bytes], method: str = "GET") -> Answer:
    """One request with exactly this target, which an HTTP client would tidy up first."""
    path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote_to_bytes(path).decode(errors="replace"),
        "raw_path": path,
        "query_string": query,
        "headers": list(headers),
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await Judged(service, build_application(service))(scope, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), body)
