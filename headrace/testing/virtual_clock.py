"""Time that stands still until a test moves it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

EPOCH_S = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""When every virtual clock begins, unless told otherwise."""
_BACKGROUND = ("lag marks", "members", "announcement", "held look", "purge of requests")
"""Tasks of a worker that sleep beside its units: they hold nothing up."""


@dataclass(eq=False, slots=True)
class _Sleeper:
    due_s: float
    turn: int
    woken: asyncio.Future[None]
    whose: object


class VirtualTimer:
    """A call that is still to come."""

    def __init__(
        self, due_s: float, turn: int, call: Callable[[], object], armed: "dict[VirtualTimer, None]"
    ) -> None:
        self.due_s = due_s
        self.turn = turn
        self._call = call
        self._armed = armed
        armed[self] = None

    def cancel(self) -> None:
        """Let it not come."""
        self._armed.pop(self, None)

    def fire(self) -> None:
        """Make the call now, unless it was cancelled."""
        if self in self._armed:
            self.cancel()
            self._call()


class VirtualClock:
    """One time for all workers of a harness."""

    def __init__(self, epoch_s: float = EPOCH_S) -> None:
        self.passed_s = 0.0
        """How far it was moved since it began."""
        self._epoch_s = epoch_s
        self._sleepers: dict[_Sleeper, None] = {}
        self._timers: dict[VirtualTimer, None] = {}
        self._turns = count()

    @property
    def timers(self) -> int:
        """How many calls are still to come."""
        return len(self._timers)

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._epoch_s + self.passed_s

    def monotonic(self) -> float:
        """Seconds since it began."""
        return self.passed_s

    async def sleep(self, seconds: float, *, whose: object = None) -> None:
        """Return once the clock was moved this far. Cancel: nothing is left."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        sleeper = _Sleeper(self.passed_s + seconds, next(self._turns), woken, whose)
        self._sleepers[sleeper] = None
        try:
            await woken
        finally:
            self._sleepers.pop(sleeper, None)

    def call_later(self, seconds: float, call: Callable[[], object]) -> VirtualTimer:
        """Call a function once the clock was moved this far. It holds nothing up."""
        return VirtualTimer(self.passed_s + seconds, next(self._turns), call, self._timers)

    def waiting(self, whose: object) -> int:
        """How many of somebody's waits are in progress; one whose time has come is not, from that moment."""
        return sum(sleeper.whose is whose for sleeper in self._sleepers)

    def next_due_s(self) -> float:
        """When the next sleeper wakes, in seconds since the clock began; infinity when nobody sleeps."""
        return min((each.due_s for each in self._awaited()), default=float("inf"))

    def move_to(self, passed_s: float) -> None:
        """Let time pass, and wake who is due then, in the order of their times."""
        self.passed_s = max(self.passed_s, passed_s)
        for each in sorted(self._awaited(), key=lambda each: (each.due_s, each.turn)):
            if each.due_s > self.passed_s:
                break
            if isinstance(each, VirtualTimer):
                each.fire()
                continue
            del self._sleepers[each]
            if not each.woken.done():
                each.woken.set_result(None)

    def _awaited(self) -> list[_Sleeper | VirtualTimer]:
        return [*self._sleepers, *self._timers]


class WorkerClock:
    """The same time as one worker has it: it also knows how many of its tasks wait for time to pass."""

    def __init__(self, shared: VirtualClock) -> None:
        self._shared = shared

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._shared.time()

    def monotonic(self) -> float:
        """Seconds since the clock began."""
        return self._shared.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was moved this far. Cancel: nothing is left."""
        task = asyncio.current_task()
        is_background = task is not None and task.get_name() in _BACKGROUND
        await self._shared.sleep(seconds, whose=None if is_background else self)

    def call_later(self, seconds: float, call: Callable[[], object]) -> VirtualTimer:
        """Call a function once the clock was moved this far."""
        return self._shared.call_later(seconds, call)

    @property
    def waiting(self) -> int:
        """Back-offs and other waits of tasks that are in progress."""
        return self._shared.waiting(self)
