"""A service under test: in this process, on a simulated log, under a clock that the test moves."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.app import App
from headrace.errors import DeclarationError, UnencodableValue
from headrace.flow.sending import Sent
from headrace.flow.stream import Delivery
from headrace.flow.topic import SAME_KEY, Topic
from headrace.settings import Settings
from headrace.tables.engines import open_engine
from headrace.testing.disk import Disk
from headrace.testing.items import (
    DERIVED,
    Advance,
    Compact,
    Crash,
    CrashPoint,
    Disturbance,
    Join,
    Leave,
    Outage,
    Poison,
    Rebalance,
    Send,
)
from headrace.testing.journal import Journal, chunk_of
from headrace.testing.producer import Producer
from headrace.testing.refold import check_refold
from headrace.testing.service import AppHarness
from headrace.testing.timetable import Timetable
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker
from headrace.testing.world import World

K = TypeVar("K")
V = TypeVar("V")

KeyRule = str | Callable[[Any], Any]
"""How the key of an event is found: the name of its field, or a function of the event."""


class Harness(AppHarness):
    """Some apps on one log; what is asked of it without naming an app is asked of the first."""

    def __init__(self, apps: Iterable[App], world: World, key: KeyRule | None) -> None:
        self._apps = {app: AppHarness(app, world) for app in apps}
        super().__init__(next(iter(self._apps)), world)
        self.log = world.journal
        """The simulated cluster: topics, offsets, compaction, and all records that there ever were."""
        self.clock = world.clock
        self._producer = Producer(world.journal, world.clock)
        self._key_of = attrgetter(key) if isinstance(key, str) else key
        self._timetable = Timetable(world)
        self.story: list[Any] = []
        """Everything that was put in, in order; `run` tells it again."""

    @property
    def apps(self) -> list[App]:
        """The apps under test."""
        return list(self._apps)

    def __getitem__(self, app: App) -> AppHarness:
        return self._apps[app]

    # --- what goes in

    async def send(
        self,
        topic: Topic[K, V],
        event: V | None,
        *,
        key: Any = DERIVED,
        headers: dict[str, bytes] | None = None,
    ) -> Sent:
        """Send an event, and return when the world is quiet.

        Raises: DeclarationError when the topic wants a key and nothing says which; UnencodableValue;
        what has ended a worker.
        """
        sent = await self._add(Send(topic, event, key, headers or {}))
        self._producer.commit()
        await self.quiet()
        return sent

    async def run(self, items: Iterable[Any]) -> None:
        """Put in events and disturbances one after the other; what must always hold is checked after each.

        Events that stand together are sent together, and are in flight when the disturbance behind
        them strikes. Raises: PromiseBroken; what has ended a worker.
        """
        told: list[Any] = []
        try:
            for item in items:
                told.append(item)
                self.story.append(item)
                if isinstance(item, Disturbance):
                    self._producer.commit()
                    await self._disturb(item)
                    await self.quiet()
                    self._world.check()
                elif isinstance(item, Poison):
                    self._poison(item)
                else:
                    await self._add(item if isinstance(item, Send) else Send(None, item))
            self._producer.commit()
            await self.quiet()
            self._world.check()
        except BaseException as error:
            error.add_note(f"after {len(told)} items, the last one {told[-1] if told else None!r}")
            raise

    async def _add(self, sending: Send) -> Sent:
        event = sending.event
        topic = self._topic_of(event) if sending.topic is None else self._topic(sending.topic)
        key = sending.key
        if key is DERIVED:
            key = self._key_of(event) if self._key_of is not None and event is not None else SAME_KEY
        return await self._producer.add(topic, event, key, sending.headers)

    def _poison(self, poison: Poison) -> None:
        topic = self.app.declarations.agents[0].topic if poison.topic is None else self._topic(poison.topic)
        self._producer.add_raw(topic, poison.key, poison.value, poison.headers)

    def _topic(self, topic: Topic[Any, Any] | str) -> Topic[Any, Any]:
        if isinstance(topic, Topic):
            return topic
        for app in self._apps:
            if topic in app.declarations.topics:
                return app.declarations.topics[topic]
        raise DeclarationError(f"no app of this harness declares a topic {topic}")

    def _topic_of(self, event: Any) -> Topic[Any, Any]:
        """The one topic whose type the event has; where there are several, the one that an agent reads."""
        able = {
            name: topic
            for app in self._apps
            for name, topic in app.declarations.topics.items()
            if _takes(topic, event)
        }
        read = {agent.topic.name for app in self._apps for agent in app.declarations.agents}
        able = {name: topic for name, topic in able.items() if name in read} or able
        if len(able) != 1:
            raise DeclarationError(
                f"{len(able)} topics take a {type(event).__name__}: {', '.join(able) or 'none'}",
                hint="Write Send(topic, event).",
            )
        return next(iter(able.values()))

    async def _disturb(self, item: Disturbance) -> None:
        match item:
            case Crash():
                worker = self._workers_of(item.app)[item.worker]
                await self._world.crash(worker, CrashPoint(item.at), item.after, keeps_store=item.keeps_store)
            case Rebalance():
                await self.join(item.app)
                await self.leave(item.app)
            case Join():
                await self.join(item.app)
            case Leave():
                await self.leave(item.app, item.worker)
            case Outage():
                await self._cut_off(self._workers_of(item.app)[item.worker], item)
            case Compact():
                for name, topic in self.log.topics.items():
                    if topic.spec.is_compacted:
                        self.log.compact(name)
            case Advance():
                await self.advance(item.seconds)

    def _workers_of(self, app: App | None) -> list[Worker]:
        return self._world.workers[app or self.app]

    async def _cut_off(self, worker: Worker, outage: Outage) -> None:
        worker.fate.calls_left = outage.after - 1
        await self.quiet()
        await self.advance(outage.seconds)
        worker.fate.calls_left = None
        # By then whoever has backed off, however often, has tried again.
        await self.advance(worker.settings.reopen_backoff_max_s)

    async def join(self, app: App | None = None) -> None:
        """Let one more worker join, and return when the world is quiet."""
        workers = self._workers_of(app)
        worker = workers[0].sibling(max(each.number for each in workers) + 1)
        workers.append(worker)
        await self._world.start(worker)

    async def leave(self, app: App | None = None, worker: int = -1) -> None:
        """Let a worker stop in peace, and return when the world is quiet."""
        leaving = self._workers_of(app).pop(worker)
        await leaving.stop()
        leaving.disk.close()
        await self.quiet()

    async def advance(self, seconds: float) -> None:
        """Let time pass: back-offs end, timers and cron lines tick; returns when the world is quiet."""
        await self._timetable.advance(seconds)

    async def quiet(self) -> None:
        """Return when nothing goes on before an event comes or time passes. Raises: what ended a worker."""
        await self._world.quiet()

    # --- what comes out

    def sent(self, topic: Topic[K, V]) -> list[V]:
        """Every committed event of a topic, partition after partition. Raises: DecodeError."""
        return [delivery.value for delivery in self.deliveries(topic)]

    def deliveries(self, topic: Topic[K, V]) -> list[Delivery[V]]:
        """The same with key, headers, offset and id."""
        found: list[Delivery[V]] = []
        for place in sorted(place for place in self.log.records if place.topic == topic.name):
            for record in self.log.records[place]:
                chunk = chunk_of(place, [record], record.offset + 1)
                value: Any = None if record.value is None else topic.values.decoded(record.value)
                found.append(Delivery(topic, chunk, 0, value))
        return found

    # --- what must hold

    async def check(self) -> None:
        """Hold rows and outputs to what the agents make of the events in the log, each once.

        Every app's agents fold their events again, undisturbed, in the order in which they were
        handed out. Raises: PromiseBroken.
        """
        await self.quiet()
        self._world.check()
        for app in self._apps:
            await check_refold(app, self.log, self._world.workers[app][0].settings)

    async def close_all(self) -> None:
        """Stop all workers. Raises: what has ended one."""
        try:
            for worker in self._world.all_workers():
                await worker.stop()
        finally:
            for worker in self._world.all_workers():
                await worker.end()
            for app in self._apps.values():
                await app.close()


def _takes(topic: Topic[Any, Any], event: Any) -> bool:
    if topic.values.value_type in (Any, bytes) and not isinstance(event, bytes):
        return False
    try:
        topic.values.check(event)
    except UnencodableValue:
        return False
    return True


@asynccontextmanager
async def harness(
    *apps: App,
    workers: int = 1,
    key: KeyRule | None = None,
    settings: Settings | None = None,
    rocksdb: Path | None = None,
) -> AsyncIterator[Harness]:
    """Apps as they run in production, but in this process, on one simulated log, under virtual time.

    `key`: the field, or a function, that gives the key of an event that is sent without one.
    `rocksdb`: a folder for the tables' files; rows are in memory without it. `settings`: those of
    `App(...)` unless given; log, address, instance and data folder are the harness's own.
    Raises: DeclarationError and the like; what has ended a worker.
    """
    if not apps:
        raise DeclarationError("a harness needs an app", hint="Write harness(app).")
    world = World(Journal(), VirtualClock())
    currents = {app: app.current for app in apps}
    under_test = Harness(apps, world, key)
    try:
        for app in apps:
            _discover(app)
            chosen = _settings(settings or app.settings_in_code(), rocksdb)
            world.workers[app] = []
            for number in range(workers):
                disk = Disk(open_engine(chosen, Path(chosen.data) / f"{app.declarations.app_id}-{number}"))
                worker = Worker(
                    app, number, journal=world.journal, disk=disk, clock=world.clock, settings=chosen
                )
                world.workers[app].append(worker)
                await world.start(worker)
        yield under_test
        await under_test.quiet()
        world.check()
        await under_test.close_all()
    finally:
        for worker in world.all_workers():
            await worker.end()
        for app, current in currents.items():
            app.current = current


def _settings(settings: Settings, rocksdb: Path | None) -> Settings:
    store = "memory" if rocksdb is None else "rocksdb"
    return msgspec.structs.replace(settings, log="simulated://", store=store, data=str(rocksdb or "."))


def _discover(app: App) -> None:
    """Import what the app names in `autodiscover=`, as a worker does. Raises: what an import raises."""
    conf: Any = app.conf  # Faust's type for it reads as a method
    if conf.autodiscover:
        app.discover()
