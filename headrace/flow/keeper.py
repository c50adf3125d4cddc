"""Keeps one task of this worker running: the one error path, from failure to the next take-over."""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from headrace.clock import is_set_within
from headrace.errors import CommitUnknown, EventError, Fenced, HeadraceError, Unavailable
from headrace.flow.group import Group
from headrace.flow.isolation import Isolation
from headrace.flow.task import Task
from headrace.flow.worksite import Worksite
from headrace.log.port import Assignment, Membership
from headrace.tables.view import PartitionView, ViewState

logger = logging.getLogger(__name__)


class KeeperState(Enum):
    """What a keeper is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    """Failed, and about to take over again."""
    STOPPED = "stopped"
    """Stands in front of an event that its agent refuses."""
    STOPPING = "stopping"
    DONE = "done"


class Work(Protocol):
    """What is kept running: a task, or a desk for recorded requests."""

    async def run(self) -> None:
        """Take the partition over and run it until `stop`. Raises: the first error."""

    def stop(self) -> None:
        """Finish what is in hand, close; `run` then returns."""


class Kept(Protocol):
    """A group of partitions, as the workers share them out."""

    @property
    def name(self) -> str: ...
    @property
    def changelog(self) -> str:
        """The topic under whose name they are shared out."""


Begin = Callable[[PartitionView], Work]
"""Makes what is run next, and shows itself in this view."""


def tasks_of(site: Worksite, group: Group, partition: int) -> Begin:
    """One task after the other, each of which knows what made the ones before it fail."""
    isolation = Isolation()
    return lambda view: Task(site, group, partition, view, isolation)


class Keeper:
    """Runs a task until it is stopped; a recoverable failure closes it and takes it over again."""

    def __init__(
        self,
        site: Worksite,
        group: Kept,
        partition: int,
        membership: Membership,
        begin: Begin,
        *,
        must_ask: bool = False,
    ) -> None:
        self.group = group
        self.partition = partition
        self.state = KeeperState.RUNNING
        self.view = PartitionView(group.name, partition)
        self.given_up_in: int | None = None
        """The generation in which the group said that this task is another worker's."""
        self.was_fenced = False
        """Whether its last unit was refused, for another worker had taken the task over meanwhile."""
        self._must_ask = must_ask
        """Whether the group is to confirm the partition before the first take-over, too."""
        self._site = site
        self._membership = membership
        self._task: Work | None = None
        self._begin = begin
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish the unit in hand, commit, close; `run` then returns."""
        self.state = KeeperState.STOPPING
        self._stopping.set()
        if self._task is not None:
            self._task.stop()

    async def run(self) -> None:
        """Keep the task until `stop`, or until the group says that it is another worker's.

        A task that an event stops stands still until then; the worker's other tasks run on.
        Raises: the error of a task that cannot go on.
        """
        failures = 0
        try:
            if self._must_ask and not await self._is_still_ours():
                return
            while not self._stopping.is_set():
                work_before = self._site.figures.work
                try:
                    await self._run_once()
                except EventError as error:
                    await self._stand_still(error)
                except HeadraceError as error:
                    if not error.is_recoverable:
                        raise
                    if self._stopping.is_set() and isinstance(error, Fenced):
                        # Its new owner was faster than the unit in hand, which is handled there.
                        logger.info("Task %s/%s was taken over", self.group.name, self.partition)
                        self.was_fenced = True
                        return
                    self._note(error)
                    # Progress since the last failure says that this is a new trouble.
                    failures = 0 if self._site.figures.work > work_before else failures + 1
                    if self._stopping.is_set() or not await self._may_reopen(error, failures):
                        return
        finally:
            self.state = KeeperState.DONE
            self.view.close()

    async def _run_once(self) -> None:
        """Run the task; a stop during its take-over cancels it, there is no unit in hand yet."""
        self.view.close(ViewState.RESTORING)
        self._task = self._begin(self.view)
        name = f"task {self.group.name}/{self.partition}"
        running = asyncio.create_task(self._task.run(), name=name)
        stopping = asyncio.create_task(self._stopping.wait(), name=f"stop of {name}")
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and self.view.state is ViewState.RESTORING:
                running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()
        finally:
            stopping.cancel()
            if not running.done():
                running.cancel()
                await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # of a task whose keeper is cancelled nobody wants to hear
            self._task = None

    async def _stand_still(self, error: EventError) -> None:
        self.state = KeeperState.STOPPED
        self.view.stop(error)
        self._count(error)
        where = f"{self.group.name}/{self.partition}"
        logger.critical("Task %s stands still, %s: %s", where, type(error).__name__, error)
        await self._stopping.wait()

    def _note(self, error: HeadraceError) -> None:
        self._count(error)
        logger.warning("Task %s/%s failed and is closed: %s", self.group.name, self.partition, error)

    def _count(self, error: HeadraceError) -> None:
        kind = type(error).__name__
        counts = self._site.figures.failures
        counts[kind] = counts.get(kind, 0) + 1

    async def _may_reopen(self, error: HeadraceError, failures: int) -> bool:
        """Wait before the next take-over; false when the partition is not ours any more."""
        self.state = KeeperState.WAITING
        self.view.close(ViewState.RESTORING)
        # Who has not reached the log for a while may have lost the task without knowing.
        must_ask = isinstance(error, Fenced | CommitUnknown | Unavailable)
        if must_ask and not await self._is_still_ours():
            logger.warning("Task %s/%s is given up to its new owner", self.group.name, self.partition)
            return False
        settings = self._site.settings
        wait_s = min(settings.reopen_backoff_s * 2 ** min(failures, 16), settings.reopen_backoff_max_s)
        if await is_set_within(self._stopping, wait_s, self._site.clock):
            return False
        self.state = KeeperState.RUNNING
        return True

    async def _is_still_ours(self) -> bool:
        """Whether the group confirms the partition: a zombie must not fence the rightful owner back."""
        while not self._stopping.is_set():
            try:
                confirmed = await self._confirmed()
            except Unavailable as error:
                logger.warning("The group does not confirm who owns what: %s", error)
                continue
            if confirmed is None:
                return False
            if self.partition in confirmed.partitions.get(self.group.changelog, frozenset()):
                return True
            self.given_up_in = confirmed.generation
            return False
        return False

    async def _confirmed(self) -> Assignment | None:
        """What the group says now; None when this keeper is stopped first."""
        name = f"{self.group.name}/{self.partition}"
        asking = asyncio.create_task(self._membership.confirm(), name=f"confirmation of {name}")
        stopping = asyncio.create_task(self._stopping.wait(), name=f"stop of {name}")
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()
            stopping.cancel()
            await asyncio.wait({asking, stopping})
