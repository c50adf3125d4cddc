"""One worker of an app inside a harness, over all its lives."""

import asyncio
import inspect
from collections.abc import Mapping
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import msgspec

from headrace.app import App
from headrace.causes import first_cause
from headrace.declarations import Declarations, Timed
from headrace.errors import HeadraceError
from headrace.events.position import TopicPartition
from headrace.flow.group import Group, changelog_name
from headrace.http.server import HttpServer
from headrace.runtime import Runtime
from headrace.settings import Settings
from headrace.tables.engines import open_engine
from headrace.tables.globalview import GlobalView
from headrace.tables.view import PartitionView
from headrace.testing.disk import Disk
from headrace.testing.journal import Journal
from headrace.testing.link import Fate, Link, LinkedLog
from headrace.testing.lookups import Lookups, NotedView, WatchedRuntime
from headrace.testing.virtual_clock import VirtualClock, WorkerClock

_STARTUP_TURNS = 200
"""Turns of the loop that an app's start-up task gets before the world may be called quiet."""
PORT_OF_FIRST = 1
"""Where the first worker says it listens; nobody does, but the others know each other by such numbers."""
_STOP_PATIENCE_S = 30.0


class Worker:
    """Runs an app; crashes and stops as it is told, and starts again on the disk it had."""

    def __init__(
        self,
        app: App,
        number: int,
        *,
        journal: Journal,
        disk: Disk,
        clock: VirtualClock,
        settings: Settings,
        declarations: Declarations | None = None,
    ) -> None:
        self.app = app
        self.number = number
        self.instance = f"{app.declarations.app_id}-{number}"
        self.disk = disk
        self.clock = WorkerClock(clock)
        self.fate = Fate()
        self.struck = asyncio.Event()
        """Set when its fate has struck."""
        self.is_running = False
        self.lives = 0
        """How often it was started."""
        self.journal = journal
        self._shared_clock = clock
        self._declarations = declarations or app.declarations
        self.settings = msgspec.structs.replace(settings, instance=self.instance, http="127.0.0.1:0")
        self._run: asyncio.Task[None] | None = None
        self._startup: list[asyncio.Task[Any]] = []
        self.runtime: Runtime

    def _new_runtime(self) -> Runtime:
        self.fate, self.clock = Fate(), WorkerClock(self._shared_clock)
        self.lookups = Lookups()
        runtime = WatchedRuntime(
            self._declarations,
            self.settings,
            log=self.new_log(),
            engine=self.disk.mounted(self.fate),
            clock=self.clock,
            http=_Unheard(self.number),
        )
        runtime.view_of = self.new_global_view
        return runtime

    def sibling(self, number: int) -> "Worker":
        """Another worker of the same app, with a disk of its own."""
        folder = Path(self.settings.data) / f"{self.app.declarations.app_id}-{number}"
        return Worker(
            self.app,
            number,
            journal=self.journal,
            disk=Disk(open_engine(self.settings, folder)),
            clock=self._shared_clock,
            settings=self.settings,
        )

    def new_context(self) -> Context:
        """The context of one life: whatever the worker starts inherits it."""
        return copy_context()

    def new_log(self) -> LinkedLog:
        """The log as one life of the worker reaches it."""
        return LinkedLog(Link(self.journal, self.fate, self.lookups))

    def new_global_view(self, group: Group) -> GlobalView:
        """A global table as one life of the worker follows it."""
        return NotedView(group, self.lookups)

    # --- its life

    def start(self) -> None:
        """Begin a life; `has_settled` tells when it serves what it is assigned."""
        self.runtime = self._new_runtime()
        self.struck = asyncio.Event()
        self.fate.on_death = self._die
        self._run = asyncio.create_task(
            self.runtime.run(), name=f"worker {self.instance}", context=self.new_context()
        )
        self.is_running = True
        self.lives += 1

    def _die(self) -> None:
        assert self._run is not None
        self.is_running = False
        group = self.journal.group(self.app.declarations.app_id)
        if self.instance in group.members:
            group.expel(self.instance)
        self._run.cancel()
        for task in self._startup:
            task.cancel()
        self.struck.set()

    async def bury(self) -> None:
        """Wait until nothing of a dead worker is left but its disk."""
        assert self._run is not None
        async with asyncio.timeout(_STOP_PATIENCE_S):
            await asyncio.wait({self._run, *self._startup})
        self._startup.clear()
        if not self._run.cancelled():
            # Looked at, or asyncio would warn: the dead have no failures that matter.
            self._run.exception()

    async def stop(self) -> None:
        """Finish and commit the units in hand, and leave. Raises: what has ended the worker."""
        if self._run is None or not self.is_running:
            return
        self.is_running = False
        self.go_on()
        for task in self._startup:
            task.cancel()
        self.runtime.stop()
        async with asyncio.timeout(_STOP_PATIENCE_S):
            await asyncio.wait({self._run, *self._startup})
        self._startup.clear()
        self._raise_failure()

    async def end(self) -> None:
        """End the run where it stands, if it has not ended, and let go of the disk."""
        if self._run is not None and not self._run.done():
            self.fate.die()
            await self.bury()
        self.is_running = False
        self.disk.close()

    def stand_still(self) -> None:
        """Let nothing that it asks of the log return, until it goes on: as SIGSTOP does to a process."""
        self.fate.going.clear()

    def go_on(self) -> None:
        """Go on where it stood still."""
        self.fate.going.set()

    @property
    def is_listening(self) -> bool:
        """Whether its server would answer: it does once the worker has found its topics."""
        return self.is_running and bool(self.runtime.catalog.topic_ids)

    @property
    def is_standing(self) -> bool:
        """Whether it stands still."""
        return not self.fate.going.is_set()

    def _raise_failure(self) -> None:
        assert self._run is not None
        if not self._run.cancelled() and (ended_by := self._run.exception()) is not None:
            raise first_cause(ended_by)

    def check(self) -> None:
        """Raise what has ended the worker or one of its start-up tasks."""
        if self.is_running and self._run is not None and self._run.done():
            self.is_running = False
            self._raise_failure()
            raise HeadraceError(
                f"the worker {self.instance} has ended by itself",
                hint="Something stopped it from inside the app; look at its log.",
            )
        for task in self._startup:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # --- what it does

    def followed(self) -> list[PartitionView]:
        """The partitions of global tables, which every worker has."""
        return list(self.runtime.followed()) if self.is_running else []

    def followers_behind(self) -> int:
        """How many of its global tables have not been followed to the end of their changelogs."""
        if not self.is_running:
            return 0
        return sum(not self._has_followed(view) for view in self.runtime.global_views())

    def _has_followed(self, view: GlobalView) -> bool:
        changelog = changelog_name(self.app.declarations.app_id, view.group)
        return all(
            view.shown.get(number, -1) >= self.journal.partition(TopicPartition(changelog, number)).end
            for number in range(len(view.partitions))
        )

    def views(self) -> list[PartitionView]:
        """The partitions it owns."""
        return list(self.runtime.views()) if self.is_running else []

    def desks(self) -> list[PartitionView]:
        """The partitions of recorded requests that it owns."""
        return list(self.runtime.desks()) if self.is_running else []

    async def owes(self, assigned: Mapping[str, frozenset[int]]) -> bool:
        """Whether its tasks are not those it is assigned, or it is not ready."""
        if not self.runtime.ready.is_set():
            return True
        wanted = {(name, partition) for name, numbers in assigned.items() for partition in numbers}
        return wanted != {(view.group, view.partition) for view in self.runtime.views()}

    async def begin_tasks(self) -> None:
        """Run what the app runs once at its start; what takes longer goes on beside everything else."""
        for timed in self.app.declarations.timed:
            if timed.is_once and (self.runtime.is_leader or not timed.on_leader):
                with self.runtime.direct():
                    task = asyncio.create_task(_called(timed, self.app), name=f"task of {self.instance}")
                self._startup.append(task)
        for _ in range(_STARTUP_TURNS):
            if all(task.done() for task in self._startup):
                break
            await asyncio.sleep(0)

    async def tick(self, timed: Timed) -> None:
        """Run a timer once; what it sends is one transaction."""
        if self.runtime.is_leader or not timed.on_leader:
            async with self.runtime.sending():
                await _called(timed, self.app)


async def _called(timed: Timed, app: App) -> None:
    takes_app = bool(inspect.signature(timed.function).parameters)
    await (timed.function(app) if takes_app else timed.function())


class _Unheard(HttpServer):
    """Stands where a worker's server stands: requests come from the test, without a socket."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._stopping = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", PORT_OF_FIRST + self._number

    async def start(self) -> None:
        return

    async def wait_failed(self) -> None:
        await self._stopping.wait()

    async def stop(self, timeout_s: float) -> None:
        self._stopping.set()
