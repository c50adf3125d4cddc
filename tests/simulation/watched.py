"""The services of a topology as apps: their agents note what they are handed, and hold it to its past."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from random import Random

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace
from headrace.clock import Clock
from headrace.events.partitioner import Partitioner
from headrace.events.position import TopicPartition
from headrace.events.seen import STAMP_HEAD_CUT
from headrace.flow.stream import Delivery
from headrace.tables.table import Table
from tests.simulation.causes import Chronicle, Events, Signal, read, written
from tests.simulation.topology import Reader, Service, Topology

KEYS = 24
"""So many keys are in use."""
_STALLED = 0.06
_STALL_MAX_S = 1.5
_ANSWERED = 1.4
"""So many answers an event has on average: a world in which everybody answers everything never rests."""
_SENT_MOST = 0.8
_REFUSED = 0.15


class Known(msgspec.Struct, frozen=True):
    """The row of a task: what it knows."""

    past: str = ""
    """What was handled here, looked up, or told by what was handled."""
    handled: Mapping[str, str] = {}
    """By agent."""


class Order(msgspec.Struct, frozen=True):
    """What a customer asks a route for."""

    id: str
    """That of the event that is sent."""
    past: str
    """What the customer knows."""
    partition: int
    """The partition of the row that the route looks at."""
    topic: str
    """Where the event goes."""
    key: int
    hops: int


def keys_of(partitions: int) -> list[int]:
    """One key for each partition."""
    placed = {Partitioner.MURMUR2.place(b"%d" % key, partitions): key for key in range(KEYS * 4)}
    return [placed[number] for number in range(partitions)]


@dataclass(frozen=True)
class Group:
    """A group of one service; each of its tasks has one row in the table."""

    service: str
    name: str
    readers: tuple[Reader, ...]
    keys: Sequence[int]
    known: Table[int, Known]


class Watch:
    """Sees every event that is handed out anywhere."""

    def __init__(self, topology: Topology, chronicle: Chronicle, clock: Clock) -> None:
        self.topology = topology
        self.groups: list[Group] = []
        self.handed_out = 0
        self.depended = 0
        """How many of these had something to wait for in another input."""
        self.early: list[str] = []
        """Events that were handed out before what came before them, as sentences."""
        self.story: list[str] = []
        self._chronicle = chronicle
        self._clock = clock

    def tell(self, what: str) -> None:
        """Note what happens now."""
        self.story.append(f"{self._clock.monotonic():8.3f} {what}")

    # --- declarations

    def app_of(self, service: Service) -> headrace.App:
        """The service as it runs."""
        app = headrace.App(service.name)
        partitions = self.topology.partitions
        topics: dict[str, headrace.Topic[int, Signal]] = {
            name: app.topic(name, key_type=int, value_type=Signal, partitions=partitions[name])
            for name in service.topics
        }
        groups: list[Group] = []
        for name, readers in service.groups.items():
            declare = app.GlobalTable if readers[0].is_global else app.Table
            known = declare(f"known_{name}", key_type=int, value_type=Known, default=Known, group=name)
            keys = keys_of(partitions[readers[0].topic])
            groups.append(Group(service.name, name, readers, keys, known))
        everywhere = next((group for group in groups if group.readers[0].is_global), None)
        for group in groups:
            looked_up = everywhere if group is not everywhere else None
            app.serve(group.known, f"/{group.known.name}")
            self._declare_route(app, group, topics, looked_up)
            for reader in group.readers:
                self._declare(app, group, reader, topics, looked_up)
        self.groups += groups
        return app

    def _declare_route(
        self,
        app: headrace.App,
        group: Group,
        topics: Mapping[str, headrace.Topic[int, Signal]],
        everywhere: Group | None,
    ) -> None:
        """A route that looks at a row of the group, and sends an event."""

        @app.route(f"/{group.name}/orders", methods=["POST"])
        async def take(request: Request) -> JSONResponse:
            order = msgspec.json.decode(await request.body(), type=Order)
            past = read(order.past) | read(group.known[group.keys[order.partition]].past)
            past |= self._looked_up(everywhere)
            own = self._chronicle.bit(order.id)
            await topics[order.topic].send(value=Signal(order.id, written(past), order.hops), key=order.key)
            return JSONResponse({"past": written(past | own)})

    def _declare(
        self,
        app: headrace.App,
        group: Group,
        reader: Reader,
        topics: Mapping[str, headrace.Topic[int, Signal]],
        everywhere: Group | None,
    ) -> None:
        is_sent = min(_SENT_MOST, _ANSWERED / max(1, self.topology.answers(reader.topic)))
        # A partial: what the whiteboard reads of an agent's code ends there; each start would read all this.
        take = partial(self._take, group, reader, topics, everywhere, is_sent)

        @app.agent(topics[reader.topic], name=reader.name, group=reader.group)
        async def agent(events: headrace.Stream[Signal]) -> None:
            async for event in events.events():
                await take(event)

    # --- what agents do with an event

    async def _take(
        self,
        group: Group,
        reader: Reader,
        topics: Mapping[str, headrace.Topic[int, Signal]],
        everywhere: Group | None,
        is_sent: float,
        event: Delivery[Signal],
    ) -> None:
        """Hold it to its past, note it, and answer it."""
        signal, key = event.value, group.keys[event.partition]
        envelope = event.envelope
        if envelope is not None and envelope.stamp[:1] == STAMP_HEAD_CUT:
            self._chronicle.broken.append(f"the stamp of {signal.id} says that something is missing in it")
        self._handed_out(group, reader, signal, event.partition, everywhere)
        chance = Random(f"{self.topology.seed} {group.service} {reader.name} {signal.id}")
        if chance.random() < _STALLED:
            await self._clock.sleep(chance.random() * _STALL_MAX_S)
        past = self._handle(group, reader, signal, key, everywhere)
        if is_refused(reader, signal.id):
            raise ValueError("this one is refused")
        for index, name in enumerate(reader.sends):
            if signal.hops and chance.random() < is_sent:
                answer = Signal(answer_id(group, reader, signal, index), past, signal.hops - 1)
                await topics[name].send(value=answer, key=chance.randrange(KEYS))

    def _handed_out(
        self, group: Group, reader: Reader, signal: Signal, partition: int, everywhere: Group | None
    ) -> None:
        """Hold the event to its past: what lies in this task's inputs and global tables must be finished."""
        self.handed_out += 1
        past, where = read(signal.past), f"{reader.name} of {group.service} {group.name}/{partition}"
        self.tell(f"{where} is handed {signal.id}")
        for other in group.readers:
            before = past & self._lying(other, partition)
            self.depended += bool(before) and other.topic != reader.topic
            self._hold(where, signal, other, before, group.known[group.keys[partition]])
        if everywhere is not None:
            for number, key in enumerate(everywhere.keys):
                other = everywhere.readers[0]
                before = past & self._lying(other, number)
                self.depended += bool(before)
                self._hold(where, signal, other, before, everywhere.known[key])

    def _lying(self, reader: Reader, partition: int) -> Events:
        return self._chronicle.lying.get(TopicPartition(reader.topic, partition), 0)

    def missing(self, past: Events, group: Group, partition: int, known: Known) -> Events:
        """What of the past lies in the inputs of a task, and is not in its row."""
        found = 0
        for reader in group.readers:
            lacking = past & self._lying(reader, partition) & ~read(known.handled.get(reader.name, ""))
            found |= lacking & ~self.refused(reader, lacking)
        return found

    def _hold(self, where: str, signal: Signal, other: Reader, before: Events, known: Known) -> None:
        missing = before & ~read(known.handled.get(other.name, ""))
        missing &= ~self.refused(other, missing)
        if missing:
            names = self._chronicle.names(missing)
            what = f"{signal.id} was handed to {where} before {other.name} had finished {names}"
            self.tell(f"TOO EARLY: {what}")
            self.early.append(what)

    def _handle(
        self, group: Group, reader: Reader, signal: Signal, key: int, everywhere: Group | None
    ) -> str:
        """Note it in the table; what happened before everything that is sent now."""
        known, own = group.known[key], self._chronicle.bit(signal.id)
        past = read(known.past) | read(signal.past) | own | self._looked_up(everywhere)
        handled = read(known.handled.get(reader.name, "")) | own
        after = Known(written(past), {**known.handled, reader.name: written(handled)})
        group.known[key] = after
        return after.past

    def _looked_up(self, everywhere: Group | None) -> Events:
        """What somebody knows who has looked at all rows of the global table."""
        past = 0
        if everywhere is not None:
            for key in everywhere.keys:
                past |= read(everywhere.known[key].past)
        return past

    def refused(self, reader: Reader, events: Events) -> Events:
        """Those of the events that end as this agent's dead letters."""
        if not reader.refuses or not events:
            return 0
        return sum(bit for name, bit in self._chronicle.each(events) if is_refused(reader, name))


def is_refused(reader: Reader, event_id: str) -> bool:
    """Whether the agent raises at this event."""
    return reader.refuses and Random(f"{reader.name} {event_id}").random() < _REFUSED


def answer_id(group: Group, reader: Reader, signal: Signal, index: int) -> str:
    """The id of what the agent sends for an event: the same whenever it handles it."""
    source = f"{group.service} {reader.name} {signal.id} {index}"
    return f"{reader.topic}-{blake2b(source.encode(), digest_size=5).hexdigest()}"
