"""A worker of a world: production code on the world's log, disk and clock."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from random import Random
from typing import Any

from headrace.causes import first_cause
from headrace.errors import Fenced
from headrace.testing.disk import Disk
from headrace.testing.link import LinkedLog
from headrace.testing.lookups import Lookups, WatchedRuntime
from headrace.testing.virtual_clock import VirtualClock, WorkerClock
from headrace.testing.worker import Worker, _Unheard
from tests.simulation.worlds.cluster import Ledger, Opening, WorldLink, WorldLog
from tests.simulation.worlds.disk import WorldDisk
from tests.simulation.worlds.steps import Step, StepFate, fate_of_now


class JumpyClock(WorkerClock):
    """A worker's clock, whose wall time may be set."""

    def __init__(self, shared: VirtualClock, jumped: Callable[[], float]) -> None:
        super().__init__(shared)
        self._jumped = jumped

    def time(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        return super().time() + self._jumped()


class WorldWorker(Worker):
    """Starts, dies at a step, and starts again on the disk it had."""

    def __init__(
        self,
        app: Any,
        number: int,
        *,
        hits: Counter[Step],
        rng: Random,
        pace: float,
        tell: Callable[[str], None],
        **options: Any,
    ) -> None:
        self.world_disk = WorldDisk(rng)
        super().__init__(app, number, disk=Disk(self.world_disk.engine), **options)
        self.jumped_s = 0.0
        """How far its wall clock was set."""
        self.troubled = asyncio.Lock()
        """Held by what decides over its life."""
        self.last_owned: Sequence[tuple[str, int]] = ()
        """What it owned when the world was quiet, by group and partition."""
        self.link: WorldLink
        self._hits = hits
        self._rng = rng
        self._pace = pace
        self._tell = tell

    def tell(self, what: str) -> None:
        """Note what happens to it."""
        self._tell(f"worker {self.number} {what}")

    def _new_runtime(self) -> WatchedRuntime:
        fate = StepFate(self._hits, self.tell)
        self.fate, self.clock = fate, JumpyClock(self._shared_clock, lambda: self.jumped_s)
        self.lookups = Lookups()
        runtime = WatchedRuntime(
            self._declarations,
            self.settings,
            log=self.new_log(),
            engine=self.world_disk.mounted(fate),
            clock=self.clock,
            http=_Unheard(self.number),
        )
        runtime.view_of = self.new_global_view
        return runtime

    def new_log(self) -> LinkedLog:
        """The log as this life reaches it."""
        assert isinstance(self.journal, Ledger)
        assert isinstance(self.fate, StepFate)
        self.link = WorldLink(self.journal, self.fate, self.lookups, self._rng, self._pace, self._opening)
        return WorldLog(self.link)

    def _opening(self) -> Opening:
        return Opening(self._shared_clock.monotonic(), self.jumped_s)

    def new_context(self) -> Context:
        """The context of one life, whose tasks all know whose they are."""
        context = super().new_context()
        context.run(fate_of_now.set, self.step_fate)
        return context

    async def stop(self) -> None:
        """Finish the units in hand, and leave; one that was put out of the group may have ended before."""
        try:
            await super().stop()
        except Fenced as fenced:
            self.tell(f"has ended: {fenced.what}")

    async def end(self) -> None:
        """End the run where it stands, if it has not ended, and let go of the disk."""
        await super().end()
        if self._run is not None and not self._run.cancelled():
            # Looked at, or asyncio would warn: whoever asks how it ended has asked by now.
            self._run.exception()

    @property
    def has_heard_all(self) -> bool:
        """Whether it works by the newest shares of the group, of which it may hear late."""
        crew = self.runtime._crew
        return (
            crew is not None and crew.generation == self.journal.group(self._declarations.app_id).generation
        )

    @property
    def was_put_out(self) -> bool:
        """Whether it has ended because the group has put it out: whoever supervises it starts it again."""
        run = self._run
        if run is None or not run.done() or run.cancelled() or not self.is_running:
            return False
        ended_by = run.exception()
        return ended_by is not None and isinstance(first_cause(ended_by), Fenced)

    @property
    def step_fate(self) -> StepFate:
        """When this life ends."""
        assert isinstance(self.fate, StepFate)
        return self.fate
