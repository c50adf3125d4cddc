"""A world alive: events, requests and troubles at seeded moments, then quiet; held to the model all along."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

import msgspec

from headrace.causes import first_cause
from headrace.events.position import TopicPartition
from headrace.flow.group import changelog_name
from headrace.tables.view import PartitionView, ViewState
from headrace.testing.rows import raw_rows
from headrace.testing.worker import Worker
from headrace.testing.world import PromiseBroken, World
from tests.simulation.jumping import LoopClock, time_passes
from tests.simulation.worlds.app import ID, ShopApp
from tests.simulation.worlds.cluster import Ledger
from tests.simulation.worlds.events import Shop
from tests.simulation.worlds.loop import SeededLoop
from tests.simulation.worlds.model import Model
from tests.simulation.worlds.oldshop import OldShop
from tests.simulation.worlds.outside import Outside
from tests.simulation.worlds.shape import Shape
from tests.simulation.worlds.steps import Step
from tests.simulation.worlds.troubles import Troubles
from tests.simulation.worlds.visitors import Visitors
from tests.simulation.worlds.worker import WorldWorker

_PATIENCE_S = 90.0
_LOOK_EVERY_S = 0.05
_SHOWN_MAX = 4


class Stuck(PromiseBroken):
    """Time passes, and something is not handled, for no reason."""


@dataclass(frozen=True)
class Life:
    """What was seen of one world."""

    trace: str
    """A hash of everything that happened, in order, with its moments."""
    handled: int
    """Events of all tasks, each once."""
    units: int
    looks: int
    """How often a partition was held against the model."""
    hits: Counter[Step]
    """Deaths by step."""
    troubles: Counter[str]
    answers: Counter[str]
    story: tuple[str, ...]


class SimulatedWorld:
    """One world of a seed."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.story: list[str] = []
        self.hits: Counter[Step] = Counter()
        self.clock = LoopClock()
        shop = Shop(has_rates=shape.has_rates)
        self.model = Model(shop, self.tell)
        self.ledger = Ledger(self.model)
        self.shop = ShopApp(shape, self.tell)
        self.old = OldShop(self.shop, shape.seed) if shape.has_bridge else None
        self.model.know(self.shop.app.declarations.tables)
        self.world = World(self.ledger, self.clock)
        self.rng = Random(f"world {shape.seed}")
        self.workers: list[WorldWorker] = []
        self.looks = 0
        self._looked: dict[PartitionView, tuple[object, ...]] = {}
        self._next_number = 0
        for _ in range(shape.workers):
            self.add_worker()
        self.outside = Outside(self)
        self.visitors = Visitors(self)
        self.troubles = Troubles(self)

    def tell(self, what: str) -> None:
        """Note what happens now."""
        self.story.append(f"{self.clock.monotonic():9.4f} {what}")

    def add_worker(self) -> WorldWorker:
        """One more worker, which is not started yet."""
        shape = self.shape
        settings = msgspec.structs.replace(
            self.shop.app.settings_in_code(),
            log="simulated://",
            store="memory",
            unit_records_max=shape.unit_records_max,
            # Measured on the real clock, which has no say here.
            unit_time_max_s=3_600.0,
            cache_rows_max=shape.cache_rows_max,
            record_bytes_max=3_000,
            reopen_backoff_s=0.05,
            reopen_backoff_max_s=0.4,
            stop_timeout_s=1.0,
        )
        worker = WorldWorker(
            self.shop.app,
            self._next_number,
            hits=self.hits,
            rng=Random(f"worker {shape.seed} {self._next_number}"),
            pace=shape.pace,
            tell=self.tell,
            journal=self.ledger,
            clock=self.clock,
            settings=settings,
        )
        self._next_number += 1
        self.workers.append(worker)
        return worker

    # --- life

    async def live(self) -> Life:
        """Live through it. Raises: PromiseBroken, Stuck; what has ended a worker."""
        try:
            async with asyncio.timeout(4 * _PATIENCE_S):
                await self._live()
            self._raise_broken()
        except BaseException as error:  # noqa: BLE001  (its cause is raised)
            cause = first_cause(error) if isinstance(error, BaseExceptionGroup) else error
            cause.add_note("\n".join([str(self.shape), *self.story]))
            raise cause from cause.__cause__
        finally:
            for worker in self.workers:
                await worker.end()
            self._looked.clear()
            if self.old is not None:
                self.old.close()
        told = "\n".join(self.story).encode()
        return Life(
            blake2b(told, digest_size=8).hexdigest(),
            sum(task.handled for task in self.model.tasks.values()),
            sum(task.unit for task in self.model.tasks.values()),
            self.looks,
            self.hits,
            self.troubles.counts,
            self.visitors.answers,
            tuple(self.story),
        )

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        loop.between = self.look
        if self.old is not None:
            await self.old.prepare()
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look_around(), name="look around")
            beginning = [
                tasks.create_task(self._start_later(worker), name="start") for worker in self.workers
            ]
            busy = [
                tasks.create_task(self.outside.send(), name="outside"),
                tasks.create_task(self.troubles.strike(), name="troubles"),
                *([tasks.create_task(self.old.sell(self), name="old shop")] if self.old else []),
                *(tasks.create_task(visit, name="visit") for visit in self.visitors.visits()),
            ]
            await asyncio.wait([*beginning, *busy])
            await self.troubles.heal()
            await self._until_quiet()
            await self.visitors.look_back()
            looking.cancel()
        self.look()
        self._check_end()
        for worker in self.workers:
            worker.last_owned = [(view.group, view.partition) for view in worker.views()]
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        self._check_stores()

    async def _until_quiet(self) -> None:
        while True:
            await self._until(lambda: not any(self.what_waits()), "not everything is handled")
            if self.old is None or await self.old.is_empty():
                break
            if self.clock.monotonic() > _PATIENCE_S:
                raise Stuck("what was left in the outbox is not published")
            await time_passes(_LOOK_EVERY_S)
        await self._until(lambda: not any(self.what_waits()), "not everything is handled")
        if self.old is not None:
            await self.old.check(self)

    async def _start_later(self, worker: WorldWorker) -> None:
        await time_passes(self.rng.random() * 0.3)
        async with worker.troubled:
            if worker in self.workers and not worker.lives:
                worker.start()

    async def _until(self, is_so: Callable[[], bool], complaint: str) -> None:
        end_s = self.clock.monotonic() + _PATIENCE_S
        while not is_so():
            if self.clock.monotonic() > end_s:
                self._raise_broken()
                raise Stuck(f"{complaint}: {'; '.join(self.what_waits())}")
            if self.shop.hanging.total():
                await self.troubles.let_go()
            await time_passes(_LOOK_EVERY_S)

    # --- what must hold at any moment

    async def _look_around(self) -> None:
        while True:
            for worker in list(self.workers):
                if worker.was_put_out:
                    await self.troubles.supervise(worker)
                worker.check()
            self.look()
            self._raise_broken()
            await time_passes(_LOOK_EVERY_S)

    def look(self) -> None:
        """Hold what every worker shows now to the model: rows and position together."""
        for worker in self.workers:
            if worker.is_running:
                for view in (*worker.views(), *worker.followed()):
                    self._look_at(worker, view)

    def _look_at(self, worker: Worker, view: PartitionView) -> None:
        if view.state is not ViewState.SERVING or view.group == "applier":
            return
        state = (view.position, view._layers, getattr(view._store, "writes", 0))
        if self._looked.get(view) == state:
            return
        self._looked[view] = state
        self.looks += 1
        place = TopicPartition(changelog_name(ID, view.group), view.partition)
        position = {at.topic: offset for at, offset in view.position.items()}
        expected = self.model.expected(place, position, self.ledger)
        if expected is None:
            return
        try:
            rows = dict(raw_rows(view, b"\1", None))
        except Exception as error:
            if type(error).__name__ in ("StoreCorrupt", "NotOwner"):
                return
            raise
        if rows != expected:
            wrong = sorted(k for k in rows.keys() | expected.keys() if rows.get(k) != expected.get(k))
            self.model.broken.append(
                f"{worker.instance} shows {place.topic}/{place.partition} at {position}: {wrong[0]!r} is "
                f"{rows.get(wrong[0])!r}, and by the fold {expected.get(wrong[0])!r}"
            )

    def _raise_broken(self) -> None:
        broken = [*self.model.broken, *self.ledger.broken, *self.shop.early, *self.visitors.wrong]
        if broken:
            raise PromiseBroken("; ".join(broken[:_SHOWN_MAX]))

    # --- what must hold at the end

    def what_waits(self) -> Iterator[str]:
        """What is not as it must be when nothing goes on, as sentences."""
        shape = self.shape
        groups = {"main": shape.partitions}
        if shape.has_archive:
            groups["archive"] = shape.partitions
        if shape.has_rates:
            groups["rates"] = 1
        if shape.has_bridge:
            groups["applier"] = shape.partitions
        running = [worker for worker in self.workers if worker.is_running]
        for worker in running:
            if not worker.runtime.ready.is_set():
                yield f"{worker.instance} is not ready"
            if not worker.has_heard_all:
                yield f"{worker.instance} has not heard of the last rebalance"
            if worker.followers_behind():
                yield f"{worker.instance} has not followed its global tables to the end"
        for group, partitions in groups.items():
            for number in range(partitions):
                own = self._owned(group, number)
                if len(own) != 1:
                    yield f"{group}/{number} has {len(own)} owners"
                elif not self.world.has_caught_up(self.shop.app, own[0]):
                    yield f"{group}/{number} is {own[0].state.value} at {dict(own[0].position)}"
        for worker in running:
            for view in worker.desks():
                if view.state is not ViewState.SERVING:
                    yield f"{worker.instance} {view.group}/{view.partition} is {view.state.value}"

    def _check_end(self) -> None:
        """Every event of every input is handled, and the log holds what its units hold."""
        for place, task in self.model.tasks.items():
            for name, end in {**task.ends, **self._applied(place)}.items():
                at = TopicPartition(name, place.partition)
                if left := self.ledger.between(at, end, self.ledger.partition(at).end):
                    self.model.broken.append(f"{place} has not handled {name} {[r.offset for r in left]}")
            partition = self.ledger.partition(place)
            kept = dict(zip(partition.keys, partition.values, strict=True))
            rows = {key: row for key, row in kept.items() if key and key[0] and row is not None}
            if rows != task.raw:
                self.model.broken.append(f"{place}: what the log holds is not the fold of its units")
        self.outside.check()
        self._raise_broken()

    def _applied(self, place: TopicPartition) -> dict[str, int]:
        """How far an applier's database is: it may be ahead of the last unit that the log has (ADR 22)."""
        if place.topic != changelog_name(ID, "applier"):
            return {}
        views = self._owned("applier", place.partition)
        return {at.topic: offset for view in views for at, offset in view.position.items()}

    def _owned(self, group: str, number: int) -> list[PartitionView]:
        """The views of one partition, of every worker that has one."""
        running = [worker for worker in self.workers if worker.is_running]
        views = [view for worker in running for view in worker.views()]
        return [view for view in views if (view.group, view.partition) == (group, number)]

    def _check_stores(self) -> None:
        """The stores of those who owned the tasks last are the fold, byte for byte."""
        for worker in self.workers:
            for group, number in worker.last_owned:
                place = TopicPartition(changelog_name(ID, group), number)
                store = worker.world_disk.engine.open_read_only(group, number)
                rows = dict(store.snapshot().scan(b"\1", None)) if store is not None else {}
                if rows != self.model.task(place).raw:
                    self.model.broken.append(f"the store of {group}/{number} is not the fold of its units")
        self._raise_broken()
