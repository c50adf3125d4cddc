"""Timers and cron lines of the apps under virtual time."""

from dataclasses import dataclass
from datetime import datetime

from headrace.app import App
from headrace.declarations import Timed
from headrace.testing.world import World


@dataclass(slots=True)
class _Entry:
    app: App
    timed: Timed
    due_s: float
    """When it ticks next, in seconds since the clock began."""


class Timetable:
    """Lets time pass from one thing to the next: whoever sleeps wakes, whatever is due ticks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: dict[tuple[App, Timed], _Entry] = {}

    async def advance(self, seconds: float) -> None:
        """Let this much time pass; returns when the world is quiet. Raises: what a timer raises."""
        clock = self._world.clock
        end_s = clock.passed_s + seconds
        self._enter()
        while (due_s := min(clock.next_due_s(), self._next_tick_s())) <= end_s:
            clock.move_to(due_s)
            await self._world.quiet()
            await self._tick(due_s)
        clock.move_to(end_s)
        await self._world.quiet()

    def _enter(self) -> None:
        """Note what was declared: timers begin with the clock."""
        for app in self._world.workers:
            for timed in app.declarations.timed:
                if not timed.is_once and (app, timed) not in self._entries:
                    self._entries[app, timed] = _Entry(app, timed, self._due_after(app, timed, 0.0))

    def _next_tick_s(self) -> float:
        return min((entry.due_s for entry in self._entries.values()), default=float("inf"))

    async def _tick(self, now_s: float) -> None:
        for entry in self._entries.values():
            if entry.due_s <= now_s:
                entry.due_s = self._due_after(entry.app, entry.timed, entry.due_s)
                for worker in self._world.workers[entry.app]:
                    await worker.tick(entry.timed)
                    await self._world.quiet()

    def _due_after(self, app: App, timed: Timed, passed_s: float) -> float:
        if timed.interval_s is not None:
            return passed_s + timed.interval_s
        from croniter.croniter import croniter  # type: ignore[import-untyped]

        began_s = self._world.clock.time() - self._world.clock.passed_s
        zone = timed.timezone or app.conf.timezone
        moment = began_s + passed_s
        start = datetime.fromtimestamp(moment, zone) if zone else moment
        next_s: float = croniter(timed.cron, start_time=start).get_next(float)
        return next_s - began_s
