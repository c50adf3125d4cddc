"""A topology alive: events from outside, stalls and troubles at seeded moments, and at last quiet."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

import headrace
from headrace.events.position import TopicPartition
from headrace.flow.group import changelog_name
from headrace.settings import Settings
from headrace.tables.memory import MemoryEngine
from headrace.testing.disk import Disk
from headrace.testing.link import Link, LinkedLog
from headrace.testing.producer import Producer
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker
from headrace.testing.world import PromiseBroken, World
from tests.simulation.causes import Chronicle, Signal, read
from tests.simulation.customers import Customer
from tests.simulation.jumping import LoopClock
from tests.simulation.stalls import StalledLog, Stalls, spells
from tests.simulation.topology import Service, Topology
from tests.simulation.troubles import Troubles
from tests.simulation.watched import KEYS, Group, Watch

BUSY_S = 6.0
"""How long events come and things go wrong."""
_STALLED_S = BUSY_S + 2
_RESTLESS_S, _CALM_S = 0.7, 2.5
"""How long it goes well with a service, on average."""
_LATE = (0.05, 0.05, 0.05, 0.4, 0.4, 0.9)
"""Of the time, how much a partition may be stalled at a service."""
_PATIENCE_S = 200.0
_SHOWN_MAX = 3
_LOOK_EVERY_S = 0.2
_CUSTOMERS = (0, 0, 1, 2)
_SIGNALS = (8, 28)
_HOPS = (2, 4)


class Stuck(AssertionError):
    """Time passes, and something is not handled."""


class TooEarly(PromiseBroken):
    """An agent was handed an event before what came before it."""


@dataclass(frozen=True)
class Life:
    """What was counted in the life of one topology."""

    signals: int
    handed_out: int
    depended: int
    """How many of these came behind an event of another input."""
    held: int
    """How many had to wait for it, as far as that was seen in passing."""
    troubles: int
    orders: int
    """Events that customers sent through routes."""
    reads: int
    """Rows that were to contain what their readers knew."""
    story: tuple[str, ...]
    """Line by line what happened, with its moment."""


class _StalledWorker(Worker):
    """A worker whose log is as slow as its service's stalls say."""

    def __init__(self, app: headrace.App, number: int, *, stalls: Stalls, **options: Any) -> None:
        super().__init__(app, number, **options)
        self._stalls = stalls

    def new_log(self) -> LinkedLog:
        return StalledLog(Link(self.journal, self.fate, self.lookups), self._stalls)

    def sibling(self, number: int) -> "_StalledWorker":
        return _StalledWorker(
            self.app, number, journal=self.journal, disk=Disk(MemoryEngine()), clock=self._shared_clock,
            settings=self.settings, stalls=self._stalls,
        )  # fmt: skip


class Stale(PromiseBroken):
    """A read lacked what it was asked to contain."""


class Town:
    """The five services on one log, under one clock."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.clock: VirtualClock = LoopClock()
        self.chronicle = Chronicle(frozenset(topology.partitions))
        self.watch = Watch(topology, self.chronicle, self.clock)
        self._world = World(self.chronicle, self.clock)
        self._apps: dict[str, headrace.App] = {}
        self._troubles: list[Troubles] = []
        self._held: set[tuple[str, str, TopicPartition, int]] = set()
        self._visits: Counter[Worker] = Counter()
        for service in topology.services:
            self._build(service)
        rng = Random(f"customers {topology.seed}")
        self._customers = [
            Customer(
                f"c{number}", lambda name: self._world.workers[self._apps[name]], watch=self.watch,
                chronicle=self.chronicle, clock=self.clock, visits=self._visits, rng=rng,
            )
            for number in range(rng.choice(_CUSTOMERS))
        ]  # fmt: skip

    def _build(self, service: Service) -> None:
        app = self._apps[service.name] = self.watch.app_of(service)
        stalls = self._stalls(service, Random(f"stalls {self.topology.seed} {service.name}"))
        workers: list[Worker] = [
            _StalledWorker(
                app, number, journal=self.chronicle, disk=Disk(MemoryEngine()), clock=self.clock,
                settings=_settings(app, service), stalls=stalls,
            )
            for number in range(service.workers)
        ]  # fmt: skip
        self._world.workers[app] = workers
        rng = Random(f"troubles {self.topology.seed} {service.name}")
        pace_s = _RESTLESS_S if service.is_restless else _CALM_S
        troubles = Troubles(
            app, workers, self.clock, rng, tell=self.watch.tell, pace_s=pace_s, visits=self._visits
        )
        self._troubles.append(troubles)

    def _stalls(self, service: Service, rng: Random) -> Stalls:
        partitions = self.topology.partitions
        names = {reader.topic: partitions[reader.topic] for reader in service.readers}
        for group, readers in service.groups.items():
            if readers[0].is_global:
                names[changelog_name(service.name, group)] = partitions[readers[0].topic]
        reading = {
            TopicPartition(name, number): spells(
                rng, _STALLED_S, share=_LATE[-1] if name in service.late else rng.choice(_LATE), longest_s=3.0
            )
            for name, count in sorted(names.items())
            for number in range(count)
        }
        return Stalls(self.clock, reading, spells(rng, _STALLED_S, share=0.1, longest_s=2.0))

    # --- life

    async def live(self) -> Life:
        """Live through it until all is handled.

        Raises: TooEarly, Stuck, PromiseBroken; what has ended a worker.
        """
        try:
            async with asyncio.timeout(2 * _PATIENCE_S):
                await self._live()
            self._check()
        except BaseException as error:
            told = [str(self.topology), *self.watch.story]
            again = f"SIMULATION_SEED={self.topology.seed} pytest tests/simulation/test_topologies.py"
            error.add_note("\n".join([*told, f"tell it again: {again}"]))
            raise
        finally:
            for customer in self._customers:
                await customer.go()
            for worker in self._world.all_workers():
                await worker.end()
        return Life(
            self.chronicle.all.bit_count(),
            self.watch.handed_out,
            self.watch.depended,
            len(self._held),
            sum(each.count for each in self._troubles),
            sum(each.orders for each in self._customers),
            sum(each.waits for each in self._customers),
            tuple(self.watch.story),
        )

    async def _live(self) -> None:
        for worker in self._world.all_workers():
            worker.start()
        await self._until(self._are_all_ready, "the workers do not become ready")
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look(), name="look around")
            outside = tasks.create_task(self._send_from_outside(), name="outside")
            troubles = [
                tasks.create_task(each.go_on_until(BUSY_S), name=f"troubles of {name}")
                for name, each in zip(self._apps, self._troubles, strict=True)
            ]
            shopping = [
                tasks.create_task(each.shop_until(BUSY_S), name="customer") for each in self._customers
            ]
            await asyncio.wait([outside, *troubles, *shopping])
            await self._until(lambda: not any(self._what_waits()), "not everything is handled")
            for customer in self._customers:
                await customer.look_at_everything()
            looking.cancel()

    async def _until(self, is_so: Callable[[], bool], complaint: str) -> None:
        end_s = self.clock.monotonic() + _PATIENCE_S
        while not is_so():
            if self.clock.monotonic() > end_s:
                raise Stuck(f"{complaint}: {'; '.join(self._what_waits())}")
            await self.clock.sleep(_LOOK_EVERY_S)

    def _are_all_ready(self) -> bool:
        for worker in self._world.all_workers():
            worker.check()
            if worker.runtime.ready.is_set():
                worker.fate.is_restoring = False
        return not any(worker.fate.is_restoring for worker in self._world.all_workers())

    async def _look(self) -> None:
        """Note what is held, and whether a worker has ended, for ever."""
        while True:
            for worker in self._world.all_workers():
                worker.check()
                for view in worker.views():
                    for place, held in view.held.items():
                        self._held.add((worker.app.declarations.app_id, view.group, place, held.offset))
            await self.clock.sleep(_LOOK_EVERY_S)

    async def _send_from_outside(self) -> None:
        rng = Random(f"outside {self.topology.seed}")
        producer = Producer(self.chronicle, self.clock)
        topics = {}
        for app in self._apps.values():
            topics.update(app.declarations.topics)
        moments = sorted(rng.random() * BUSY_S for _ in range(rng.randint(*_SIGNALS)))
        for index, moment in enumerate(moments):
            await self.clock.sleep(moment - self.clock.monotonic())
            name, signal = rng.choice(self.topology.entries), Signal(f"x{index}", "", rng.randint(*_HOPS))
            self.watch.tell(f"{signal.id} comes to {name}, for {signal.hops} hops")
            await producer.add(topics[name], signal, rng.randrange(KEYS), {})
            producer.commit()

    # --- what must hold at the end

    def _what_waits(self) -> Iterator[str]:
        for worker in self._world.all_workers():
            if worker.followers_behind():
                yield f"{worker.instance} has not followed its global tables to the end"
        for group in self.watch.groups:
            app = self._apps[group.service]
            views = [
                v for worker in self._world.workers[app] for v in worker.views() if v.group == group.name
            ]
            for number in range(len(group.keys)):
                own = [view for view in views if view.partition == number]
                where = f"{group.service} {group.name}/{number}"
                if len(own) != 1:
                    yield f"{where} has {len(own)} owners"
                elif own[0].held:
                    yield f"{where} holds {dict(own[0].held)}, at {dict(own[0].position)}"
                elif not self._world.has_caught_up(app, own[0]):
                    yield f"{where} is {own[0].state.value} at {dict(own[0].position)}"

    def _check(self) -> None:
        if self.watch.early:
            raise TooEarly("; ".join(self.watch.early[:_SHOWN_MAX]))
        if stale := [sentence for each in self._customers for sentence in each.stale]:
            raise Stale("; ".join(stale[:_SHOWN_MAX]))
        self._world.check()
        wrong = [sentence for group in self.watch.groups for sentence in self._wrong_in(group)]
        if wrong:
            raise PromiseBroken("; ".join(wrong))

    def _wrong_in(self, group: Group) -> Iterator[str]:
        """Every agent has handled every event of its input once, but for those that it refused."""
        for number, key in enumerate(group.keys):
            changelog = TopicPartition(changelog_name(group.service, group.name), number)
            rows, table = self.chronicle.history(changelog).rows, group.known
            known = table.values.decoded(rows.get(table.row_prefix + table.keys.to_store(key), b"{}"))
            for reader in group.readers:
                lying = self.chronicle.lying.get(TopicPartition(reader.topic, number), 0)
                wanted = lying & ~self.watch.refused(reader, lying)
                handled = read(known.handled.get(reader.name, ""))
                if handled != wanted:
                    yield (
                        f"{reader.name} of {group.service} {group.name}/{number} has not handled "
                        f"{self.chronicle.names(wanted & ~handled)!r}, "
                        f"or handled {self.chronicle.names(handled & ~wanted)!r}"
                    )


def _settings(app: headrace.App, service: Service) -> Settings:
    return msgspec.structs.replace(
        app.settings_in_code(),
        log="simulated://",
        store="memory",
        unit_records_max=service.unit_records_max,
        # Measured on the real clock, which has no say here.
        unit_time_max_s=3_600.0,
    )
