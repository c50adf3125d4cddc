"""What goes wrong with the workers of one service, one thing after the other, at seeded moments."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from headrace.app import App
from headrace.flow.followers import followed_name
from headrace.testing import CrashPoint
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker

_STRIKE_S = 0.5
_DOWN_S = 0.4
_STANDING_S = 2.0


class Troubles:
    """The troubles of one service."""

    def __init__(
        self,
        app: App,
        workers: list[Worker],
        clock: VirtualClock,
        rng: Random,
        *,
        tell: Callable[[str], None],
        pace_s: float,
        visits: Counter[Worker],
    ) -> None:
        self.count = 0
        self._app = app
        self._workers = workers
        self._clock = clock
        self._rng = rng
        self._tell = tell
        self._pace_s = pace_s
        self._visits = visits

    async def go_on_until(self, end_s: float) -> None:
        """Let things go wrong until this moment; what has begun then is finished."""
        kinds: dict[Callable[[], Awaitable[None]], int] = {
            self._crash: 6,
            self._join: 2,
            self._leave: 2,
            self._cut_off: 2,
            self._stand_still: 2,
            self._compact: 1,
        }
        while True:
            await self._clock.sleep(self._rng.expovariate(1 / self._pace_s))
            if self._clock.monotonic() > end_s:
                return
            self.count += 1
            await self._rng.choices(list(kinds), list(kinds.values()))[0]()

    # --- deaths

    async def _crash(self) -> None:
        worker = self._rng.choice(self._workers)
        point, keeps_store = self._rng.choice(list(CrashPoint)), self._rng.random() < 0.7
        self._tell(f"{worker.instance} is to die at {point}")
        if point not in (CrashPoint.RESTORE, CrashPoint.QUIET):
            await self._strike(worker, point, self._rng.randint(1, 3))
        await self._die(worker, keeps_store=keeps_store)
        await self._clock.sleep(self._rng.random() * _DOWN_S)
        if point is CrashPoint.RESTORE:
            worker.start()
            await self._strike(worker, point, self._rng.randint(1, 12))
            await self._die(worker, keeps_store=keeps_store)
        await self._start(worker)

    async def _strike(self, worker: Worker, point: CrashPoint, after: int) -> None:
        """Wait until the worker dies at this point, but not for long."""
        worker.fate.arm(point, after)
        try:
            async with asyncio.timeout(_STRIKE_S):
                await worker.struck.wait()
        except TimeoutError:
            worker.fate.disarm()

    async def _die(self, worker: Worker, *, keeps_store: bool) -> None:
        worker.fate.die()
        self._tell(f"{worker.instance} dies{'' if keeps_store else ' with its store'}")
        await worker.bury()
        if not keeps_store:
            groups = sorted({agent.group for agent in self._app.declarations.agents})
            worker.disk.lose([*groups, *map(followed_name, groups)])

    async def _start(self, worker: Worker) -> None:
        self._tell(f"{worker.instance} starts")
        worker.start()
        await worker.runtime.ready.wait()
        worker.fate.is_restoring = False

    # --- rebalances

    async def _join(self) -> None:
        first = self._workers[0]
        worker = first.sibling(max(each.number for each in self._workers) + 1)
        self._workers.append(worker)
        await self._start(worker)

    async def _leave(self) -> None:
        if len(self._workers) == 1:
            await self._join()
        worker = self._workers.pop(self._rng.randrange(len(self._workers)))
        self._tell(f"{worker.instance} leaves")
        await worker.stop()
        worker.disk.close()

    # --- silence

    def _unvisited(self) -> Worker | None:
        """A worker that answers nobody now: what one that is cut off cannot verify, it may leave out."""
        able = [worker for worker in self._workers if not self._visits[worker]]
        return self._rng.choice(able) if able else None

    async def _cut_off(self) -> None:
        if (worker := self._unvisited()) is None:
            return
        self._tell(f"{worker.instance} is cut off")
        worker.fate.calls_left = self._rng.randint(0, 8)
        await self._clock.sleep(self._rng.choice((0.1, 1.0, 3.0)))
        worker.fate.calls_left = None
        self._tell(f"{worker.instance} is back")

    async def _stand_still(self) -> None:
        """One worker stands still; where another one joins meanwhile, it wakes as a zombie."""
        if (worker := self._unvisited()) is None:
            return
        self._tell(f"{worker.instance} stands still")
        worker.stand_still()
        if self._rng.random() < 0.5:
            await self._join()
        await self._clock.sleep(self._rng.random() * _STANDING_S)
        self._tell(f"{worker.instance} goes on")
        worker.go_on()

    async def _compact(self) -> None:
        """The log forgets of each key all records but the last one, and later this service's deletions."""
        journal = self._workers[0].journal
        own = f"{self._app.declarations.app_id}."
        for name, topic in journal.topics.items():
            if topic.spec.is_compacted and name.startswith(own):
                journal.compact(name)
        self._tell(f"what {self._app.declarations.app_id} keeps in the log is compacted")
