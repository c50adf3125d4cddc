"""What goes wrong in a world, drawn from its seed: several things at once, each at its moment."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING

from headrace.events.position import TopicPartition
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.cluster import Outcome
from tests.simulation.worlds.resets import reset_main
from tests.simulation.worlds.shape import Shape
from tests.simulation.worlds.steps import Step
from tests.simulation.worlds.worker import WorldWorker

if TYPE_CHECKING:
    from tests.simulation.worlds.world import SimulatedWorld

_STRIKE_S = 1.0
_RESET = (Step.RESET_FENCED, Step.RESET_BEGUN, Step.RESET_CLEARING, Step.RESET_TAKEN_OVER)
_TAKE_OVER = (
    Step.FENCED, Step.OPENED, Step.RESTORING, Step.CATCHING_UP, Step.CAUGHT_UP, Step.SERVED,
)  # fmt: skip
_HTTP = (Step.REQUESTED, Step.SENT, Step.RECORDED, Step.REMEMBERED)
_BRIDGE = (Step.SINK_SENT, Step.SINK_COMMITTED, Step.RELAYED)
_DAY_S = 86_400.0


class Troubles:
    """The troubles of one world."""

    def __init__(self, world: "SimulatedWorld") -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._rng = Random(f"troubles {world.shape.seed}")
        self._works: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        """Held by what needs the app to itself."""
        weights = _weights(world.shape)
        self._steps, self._weights = list(weights), list(weights.values())
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "crash": (12, self._crash),
            "outcome": (5, self._outcome),
            "outage": (2, self._cut_off),
            "standstill": (2, self._stand_still),
            "join": (2, self._join),
            "leave": (2, self._leave),
            "storm": (1, self._storm),
            "full disk": (2, self._fill_disk),
            "rot": (2, self._rot),
            "compaction": (2, self._compact),
            "truncation": (1, self._trim),
            "clock": (1, self._set_clock),
            "reset": (1, self._reset),
        }
        if world.shape.has_bridge:
            self._kinds["database"] = (6, self._database)

    async def strike(self) -> None:
        """Let everything go wrong that is to, each at its moment."""
        rng, shape = self._rng, self._world.shape
        weights = [weight for weight, _ in self._kinds.values()]
        chosen = rng.choices(list(self._kinds), weights, k=shape.troubles)
        moments = [0.1 + rng.random() * shape.busy_s for _ in chosen]
        async with asyncio.TaskGroup() as tasks:
            for kind, moment in zip(chosen, moments, strict=True):
                tasks.create_task(self._later(kind, moment), name=f"trouble {kind}")

    async def _later(self, kind: str, moment_s: float) -> None:
        await time_passes(moment_s)
        self.counts[kind] += 1
        self._world.tell(f"trouble: {kind}")
        await self._kinds[kind][1]()

    def _running(self) -> list[WorldWorker]:
        return [worker for worker in self._world.workers if worker.is_running and not worker.is_standing]

    def _any(self) -> WorldWorker | None:
        running = self._running()
        return self._rng.choice(running) if running else None

    # --- deaths

    async def _crash(self) -> None:
        """Whoever comes to a step first dies there, and starts again; on its way back it may die again."""
        struck = await self._die_at(self._rng.choices(self._steps, self._weights)[0])
        if struck is None:
            return
        async with struck.troubled:
            await self._bury(struck)
            await time_passes(self._rng.random() * 0.4)
            self._start(struck)
        if self._rng.random() < 0.3:
            again = await self._die_at(self._rng.choice(_TAKE_OVER))
            if again is not None:
                async with again.troubled:
                    await self._bury(again)
                    self._start(again)

    async def _die_at(self, step: Step) -> WorldWorker | None:
        """Wait until a worker dies at this step, but not for long; who has died."""
        if step in _TAKE_OVER and (first := self._any()) is not None:
            async with first.troubled:
                if first.is_running:
                    first.step_fate.die_at(Step.QUIET)
                    await self._bury(first)
                    self._start(first)
        running = [worker for worker in self._running() if not worker.troubled.locked()]
        after = self._rng.choice((1, 1, 1, 2, 3))
        if step is Step.UNMARKED:
            # Only the last slice of a unit comes to it: a second unit often comes too late. What was
            # drawn for it is drawn all the same, so that every other draw of a seed stays what it was.
            after = 1
        for worker in running:
            worker.step_fate.arm_step(step, after)
            if step in (Step.UNKNOWN_ABORTED, Step.UNKNOWN_COMMITTED):
                outcome = Outcome.COMMITTED if step is Step.UNKNOWN_COMMITTED else self._lost()
                worker.link.outcomes.append(outcome)
        work = asyncio.create_task(self._work_for(step), name="more work")
        strikes = [asyncio.create_task(worker.struck.wait(), name="strike") for worker in running]
        if strikes:
            await asyncio.wait(strikes, timeout=_STRIKE_S, return_when=asyncio.FIRST_COMPLETED)
        for strike in strikes:
            strike.cancel()
        self._works.append(work)
        dead = [worker for worker in running if not worker.is_running]
        for worker in running:
            worker.step_fate.disarm()
        if dead or not running:
            return dead[0] if dead else None
        chosen = self._rng.choice(running)
        chosen.step_fate.die_at(Step.QUIET)
        return chosen

    async def _work_for(self, step: Step) -> None:
        """Let something come that leads to this step."""
        if step in _HTTP:
            is_keyless = step in (Step.REQUESTED, Step.SENT)
            await self._world.visitors.order_now(has_key=not is_keyless)
        elif step is Step.FOLLOWED:
            await self._world.outside.rate_now()
        else:
            await self._world.outside.order_now()

    def _lost(self) -> Outcome:
        return self._rng.choice((Outcome.ABORTED, Outcome.LATE))

    async def _bury(self, worker: WorldWorker) -> None:
        if worker.is_running:
            return
        await worker.bury()
        if self._rng.random() < 0.2:
            worker.tell("loses its disk")
            worker.world_disk.lose()

    def _start(self, worker: WorldWorker) -> None:
        if worker in self._world.workers and not worker.is_running:
            worker.tell("starts")
            worker.start()

    # --- the log

    async def _outcome(self) -> None:
        worker = self._any()
        if worker is not None:
            kinds = [outcome for outcome in Outcome if outcome is not Outcome.WELL]
            coming = [self._rng.choice(kinds) for _ in range(self._rng.choice((1, 1, 2)))]
            worker.tell(f"its next transactions: {', '.join(outcome.value for outcome in coming)}")
            worker.link.outcomes += coming

    async def _cut_off(self) -> None:
        worker = self._any()
        if worker is None:
            return
        fate = worker.step_fate
        fate.calls_left = self._rng.randint(0, 8)
        await time_passes(self._rng.choice((0.1, 0.5, 2.0)))
        fate.calls_left = None

    async def _compact(self) -> None:
        ledger = self._world.ledger
        for name, topic in ledger.topics.items():
            if topic.spec.is_compacted:
                ledger.compact(name)

    async def _trim(self) -> None:
        """The log forgets events that every task has handled."""
        ledger = self._world.ledger
        for name in ("orders", "notes"):
            for number in range(self._world.shape.partitions):
                handled = [
                    task.ends.get(name, 0)
                    for place, task in self._world.model.tasks.items()
                    if place.partition == number
                    and (name in task.ends or place.topic == "shop.main.changelog")
                ]
                has_all = not self._world.shape.has_archive and not self._world.shape.has_bridge
                if handled and has_all:
                    ledger.trim(TopicPartition(name, number), min(handled))

    # --- the group

    async def _stand_still(self) -> None:
        """A worker stands still; where the group puts it out meanwhile, it wakes as a zombie."""
        worker = self._any()
        if worker is None:
            return
        worker.stand_still()
        fate = worker.step_fate
        group = self._world.ledger.group(worker.app.declarations.app_id)
        if self._rng.random() < 0.6 and len(self._running()) > 0 and worker.instance in group.members:
            worker.tell("is put out of the group")
            group.expel(worker.instance)
        await time_passes(self._rng.choice((0.3, 1.5)))
        fate.going.set()
        worker.tell("goes on")

    async def _join(self) -> None:
        if len(self._world.workers) < 6:
            self._start(self._world.add_worker())

    async def _leave(self) -> None:
        running = self._running()
        if len(running) < 2:
            return
        worker = self._rng.choice(running)
        async with worker.troubled:
            if worker.is_running and len(self._running()) > 1:
                worker.tell("leaves")
                self._world.workers.remove(worker)
                await worker.stop()
                worker.tell("has left")
                await worker.end()

    async def _storm(self) -> None:
        """Generation after generation."""
        group = self._world.ledger.group(self._world.shop.app.declarations.app_id)
        for _ in range(self._rng.randint(2, 5)):
            if self._rng.random() < 0.4:
                await self._join()
            elif self._rng.random() < 0.4:
                await self._leave()
            else:
                group.rebalance()
            await time_passes(self._rng.random() * 0.1)

    # --- machines

    async def _fill_disk(self) -> None:
        worker = self._any()
        if worker is not None:
            worker.tell("has no room on its disk")
            worker.world_disk.is_full = True
            await time_passes(self._rng.choice((0.2, 1.0)))
            worker.world_disk.is_full = False

    async def _rot(self) -> None:
        worker = self._any()
        if worker is not None:
            worker.tell(f"has damage in {worker.world_disk.rot()}")

    async def _database(self) -> None:
        """The database is down for a while, or does not answer a commit."""
        old = self._world.old
        if old is None:
            return
        if self._rng.random() < 0.5:
            old.engine.doubts += 1
            return
        old.engine.is_down = True
        await time_passes(self._rng.choice((0.1, 0.6)))
        old.engine.is_down = False

    async def _set_clock(self) -> None:
        for worker in self._running():
            worker.jumped_s += self._rng.choice((-2 * _DAY_S, -60.0, 60.0, _DAY_S, 30 * _DAY_S))
            worker.tell(f"its clock is {worker.jumped_s:.0f} s off")
            if self._rng.random() < 0.5:
                return

    # --- a reset

    async def _reset(self) -> None:
        """Everybody stops, a group is reset, and everybody starts; the reset may die at any of its steps."""
        async with self._turn, AsyncExitStack() as stack:
            workers = list(self._world.workers)
            for worker in workers:
                await stack.enter_async_context(worker.troubled)
            for worker in workers:
                if worker.is_running:
                    worker.step_fate.die_at(Step.QUIET)
                    await worker.bury()
            await reset_main(self._world, self._rng)
            for worker in workers:
                self._start(worker)
        if self._rng.random() < 0.8 and any(task.is_clearing for task in self._world.model.tasks.values()):
            struck = await self._die_at(Step.RESET_TAKEN_OVER)
            if struck is not None:
                async with struck.troubled:
                    await self._bury(struck)
                    self._start(struck)

    # --- the end of it

    async def heal(self) -> None:
        """Nothing is in the way any more: whoever is down starts, whoever hangs is started anew."""
        world = self._world
        if self._works:
            await asyncio.wait(self._works)
        for work in self._works:
            work.result()
        world.tell("everything heals")
        if world.old is not None:
            world.old.engine.doubts = 0
        for worker in world.workers:
            worker.step_fate.disarm()
            worker.step_fate.calls_left = None
            worker.link.outcomes.clear()
            worker.world_disk.is_full = False
            worker.go_on()
        for worker in world.workers:
            self._start(worker)

    async def let_go(self) -> None:
        """Start everybody anew, one after the other, because an agent does not return."""
        for worker in list(self._world.workers):
            async with worker.troubled:
                if worker.is_running:
                    worker.tell("is stopped, because an agent does not return")
                    await worker.stop()
                self._start(worker)

    async def supervise(self, worker: WorldWorker) -> None:
        """Start a worker again that the group has put out."""
        async with worker.troubled:
            if worker.was_put_out:
                worker.tell("has ended, for the group has put it out")
                worker.is_running = False
                await worker.bury()
                self._start(worker)


def _weights(shape: Shape) -> dict[Step, int]:
    """The steps that a world of this shape has; what few worlds have comes more often in these."""
    weights: dict[Step, int] = {
        step: 2 for step in Step if step not in (*_RESET, *_HTTP, *_BRIDGE, Step.QUIET)
    }
    if shape.slice_rows > 2:
        del weights[Step.SLICED], weights[Step.UNMARKED]
    if shape.requests:
        weights.update(dict.fromkeys(_HTTP, 4))
    if shape.has_bridge:
        weights.update(dict.fromkeys(_BRIDGE, 30))
    weights[Step.FOLLOWED] = 5
    if not shape.has_rates:
        del weights[Step.FOLLOWED]
    return weights
