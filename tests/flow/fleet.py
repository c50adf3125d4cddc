"""Workers of one app on a simulated cluster, without HTTP: they come, go, die and fall asleep."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from headrace.app import App
from headrace.errors import Fenced
from headrace.flow.crew import Crew, TaskKey
from headrace.flow.figures import FlowFigures
from headrace.flow.group import Group, form_groups
from headrace.flow.worksite import Worksite
from headrace.log.port import Assignment, Member, Membership, TopicInfo
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.provisioning import provision_own
from headrace.tables.view import PartitionView, ViewState
from tests.flow.mortal import LastingEngine
from tests.service import PATIENCE_S, quick


class ShakyCluster(SimulatedCluster):
    """A cluster whose calls take one to four turns of the loop, so that every order of them comes up."""

    def __init__(self, fate: random.Random) -> None:
        super().__init__()
        self._fate = fate

    async def hop(self) -> None:
        """One way to the log or back."""
        for _ in range(self._fate.randrange(1, 5)):
            await asyncio.sleep(0)


class SleepyMembership:
    """A place in the group that the group gives up while the worker sleeps; it takes a new one when awake."""

    def __init__(self, cluster: SimulatedCluster, member: Member) -> None:
        self._group = cluster.group(member.app)
        self._member = member
        self._place: Membership = self._group.join(member)
        self._is_awake = asyncio.Event()
        self._is_awake.set()

    def fall_asleep(self) -> None:
        """Hear nothing more; the group counts this worker as dead, and it does not know."""
        self._is_awake.clear()
        asleep = self._group.members.pop(self._member.instance)
        self._group.rebalance()
        asleep.end(Fenced("asleep"))

    def wake(self) -> None:
        """Join anew."""
        self._place = self._group.join(self._member)
        self._is_awake.set()

    async def next(self, after: int) -> Assignment:
        """As the port says; a place that was lost is not the end."""
        while True:
            await self._is_awake.wait()
            try:
                return await self._place.next(after)
            except Fenced:
                continue

    async def confirm(self) -> Assignment:
        """As the port says."""
        while True:
            await self._is_awake.wait()
            try:
                return await self._place.confirm()
            except Fenced:
                continue

    async def close(self) -> None:
        """Leave."""
        if self._is_awake.is_set():
            await self._place.close()


class SimulatedWorker:
    """One worker: a membership and its crew, and a disk that outlives it."""

    def __init__(self, fleet: "Fleet", instance: str) -> None:
        self.instance = instance
        self.is_asleep = False
        self.figures = FlowFigures()
        self._fleet = fleet
        self._engine = LastingEngine()
        self._crew: Crew | None = None
        self._membership: SleepyMembership | None = None
        self._run: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._run is not None

    @property
    def crew(self) -> Crew:
        """The crew of a worker that runs."""
        assert self._crew is not None
        return self._crew

    def start(self) -> None:
        """Join, with the stores it had."""
        started = asyncio.Event()
        self._run = asyncio.create_task(self._work(started), name=self.instance)
        self._run.add_done_callback(self._fleet.note_end)

    async def _work(self, started: asyncio.Event) -> None:
        fleet = self._fleet
        site = Worksite(
            app=fleet.app_id,
            log=SimulatedLog(fleet.cluster),
            engine=self._engine,
            settings=quick(cache_rows_max=8),
            topics=fleet.topics,
            figures=self.figures,
        )
        group = fleet.group
        member = Member(
            app=fleet.app_id,
            instance=self.instance,
            partitions={group.changelog: group.partitions},
            held=lambda: {group.changelog: self._engine.held(group.name)},
        )
        self._membership = SleepyMembership(fleet.cluster, member)
        async with asyncio.TaskGroup() as tasks:
            self._crew = Crew(site, {group.name: group}, self._membership, tasks)
            await self._crew.follow()

    async def leave(self) -> None:
        """Finish the units in hand and leave the group."""
        run, crew, membership = self._run, self._crew, self._membership
        assert run is not None
        self._run = None
        if crew is not None and membership is not None:
            await crew.stop()
            await membership.close()
        await self._end(run)

    async def die(self) -> None:
        """End where it stands: whatever is in flight is dropped; the group notices at once."""
        run, membership = self._run, self._membership
        assert run is not None
        self._run = None
        await self._end(run)
        if membership is not None:
            await membership.close()

    async def _end(self, run: asyncio.Task[None]) -> None:
        run.cancel()
        await asyncio.wait({run})
        self._crew = self._membership = None
        self.is_asleep = False
        self._engine.close()

    def fall_asleep(self) -> None:
        """Lose its place in the group and go on as if nothing had happened."""
        if self._membership is not None and not self.is_asleep:
            self.is_asleep = True
            self._membership.fall_asleep()

    def wake(self) -> None:
        """Hear of the group again."""
        if self._membership is not None and self.is_asleep:
            self.is_asleep = False
            self._membership.wake()

    def lose_disk(self) -> None:
        """Come back without a store."""
        self._engine = LastingEngine()


class Fleet:
    """Some workers of one app with one group."""

    def __init__(
        self, cluster: SimulatedCluster, group: Group, topics: Mapping[str, TopicInfo], count: int
    ) -> None:
        self.app_id = group.app
        self.cluster = cluster
        self.group = group
        self.topics = topics
        self.workers = [SimulatedWorker(self, f"w{number}") for number in range(count)]
        self._failures: list[BaseException] = []

    @classmethod
    async def open(cls, app: App, cluster: SimulatedCluster, count: int) -> Self:
        """Workers that are not started yet, and the topics they need."""
        declared, log = app.declarations, SimulatedLog(cluster)
        topics = await log.provision([topic.spec for topic in declared.topics.values()])
        tables = list(declared.tables.values())
        (group,) = form_groups(declared.app_id, declared.agents, tables, topics, frozenset())
        own, _ = await provision_own(log, declared.app_id, [group])
        return cls(cluster, group, {**topics, **own}, count)

    def running(self) -> list[SimulatedWorker]:
        """The workers that run, asleep or not."""
        return [worker for worker in self.workers if worker.is_running]

    def awake(self) -> list[SimulatedWorker]:
        """The workers that the group counts."""
        return [worker for worker in self.running() if not worker.is_asleep]

    def note_end(self, run: asyncio.Task[None]) -> None:
        """What ended a worker by itself is kept for whoever waits."""
        if not run.cancelled() and (failure := run.exception()) is not None:
            self._failures.append(failure)

    def owners(self) -> dict[TaskKey, list[str]]:
        """Who serves each partition."""
        found: dict[TaskKey, list[str]] = {}
        for worker in self.running():
            for view in worker.crew.views():
                if view.state is ViewState.SERVING:
                    found.setdefault((view.group, view.partition), []).append(worker.instance)
        return found

    async def until_settled(self, ends: Mapping[str, int]) -> None:
        """Return once the workers contain the inputs up to here, and each partition is served by one."""
        await self.until(lambda: self._is_settled(ends))

    async def until_inherited(self, heir: SimulatedWorker, ends: Mapping[str, int]) -> None:
        """Return once one worker serves every partition and contains the inputs up to here."""
        await self.until(
            lambda: (
                sum(heir.instance in owners for owners in self.owners().values()) == self.group.partitions
                and _contain(heir.crew.views(), ends)
            )
        )

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once this is so; raise what ended a worker by itself."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                if self._failures:
                    raise self._failures[0]
                await asyncio.sleep(0)

    def _is_settled(self, ends: Mapping[str, int]) -> bool:
        if any(worker._crew is None or worker.crew.generation < 0 for worker in self.running()):
            return False
        views = [view for worker in self.running() for view in worker.crew.views()]
        return len(self.owners()) == len(views) == self.group.partitions and _contain(views, ends)


def _contain(views: Iterable[PartitionView], ends: Mapping[str, int]) -> bool:
    positions = (view.position for view in views)
    reached = {f"{place.topic}/{place.partition}": at for each in positions for place, at in each.items()}
    return all(reached.get(place, 0) >= end for place, end in ends.items())
