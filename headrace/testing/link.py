"""One worker's way to the cluster: where it dies when a test says so."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headrace.errors import Unavailable
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Chunk, Closing, Membership, Reader, TopicInfo, TopicSpec, Writer
from headrace.log.port import Member as WorkerMember
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.log.simulated.reader import SimulatedReader
from headrace.log.simulated.writer import SimulatedWriter
from headrace.testing.items import CrashPoint
from headrace.testing.journal import Journal, is_unit
from headrace.testing.lookups import Lookups


class Fate:
    """When one worker dies; from then on nothing that it does has an effect."""

    def __init__(self) -> None:
        self.is_dead = False
        self.is_restoring = True
        """Until the worker serves what it was assigned first."""
        self.on_death: Callable[[], object] = lambda: None
        self.calls_left: int | None = None
        """So many calls to the log are answered still; None: all."""
        self.going = asyncio.Event()
        """Cleared while the worker stands still: none of its calls to the log returns then."""
        self.going.set()
        self._point: CrashPoint | None = None
        self._left = 0

    def arm(self, point: CrashPoint, after: int) -> None:
        """Let the worker die when it reaches this point for so many times from now."""
        self._point, self._left = point, after

    def disarm(self) -> None:
        """Let it live."""
        self._point = None

    def die(self) -> None:
        """Die here and now."""
        if not self.is_dead:
            self.is_dead = True
            self.on_death()

    def pass_by(self, point: CrashPoint) -> None:
        """Note that the worker is at this point of its work; it may die of it."""
        if point is self._point and not self.is_dead:
            self._left -= 1
            if self._left <= 0:
                self.die()

    async def reach(self, point: CrashPoint) -> None:
        """As `pass_by`; who stands still stays here until it goes on, the dead until they are cancelled."""
        await self.going.wait()
        self.pass_by(point)
        if self.is_dead:
            await asyncio.get_running_loop().create_future()


class Inputs(NamedTuple):
    """What one task reads: no two tasks of an app read the same."""

    partition: int
    topics: frozenset[str]

    @classmethod
    def of(cls, positions: Mapping[TopicPartition, int]) -> "Inputs":
        """The inputs of a reader that begins at these positions."""
        return cls(next(iter(positions)).partition, frozenset(place.topic for place in positions))


class Link(SimulatedCluster):
    """The shared cluster as one worker reaches it."""

    def __init__(self, journal: Journal, fate: Fate, lookups: Lookups) -> None:
        self.journal = journal
        self.fate = fate
        self._lookups = lookups
        self.cluster_id = journal.cluster_id
        self.topics = journal.topics
        self.groups = journal.groups
        self.lag = journal.lag
        self.readers: dict[Inputs, LinkedReader] = {}
        """The newest reader of each task's inputs."""
        self._has_committed = False

    async def hop(self) -> None:
        """One way to the log or back."""
        await self.fate.going.wait()
        if self._has_committed:
            self._has_committed = False
            await self.fate.reach(CrashPoint.COMMITTED)
        elif self.fate.is_restoring:
            await self.fate.reach(CrashPoint.RESTORE)
        elif self.fate.is_dead:
            await self.fate.reach(CrashPoint.QUIET)
        if self.fate.calls_left is not None:
            self.fate.calls_left -= 1
            if self.fate.calls_left < 0:
                raise Unavailable("the network is cut")
        await asyncio.sleep(0)

    def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create what is missing, after all of it is verified. Raises: TopicMismatch."""
        return self.journal.provision(specs)

    def begin_epoch(self, transactional_id: str) -> int:
        """The next epoch of an id."""
        return self.journal.begin_epoch(transactional_id)

    def commit(
        self, transactional_id: str, epoch: int, appends: Sequence[Append]
    ) -> Mapping[TopicPartition, int]:
        """Append all of it or nothing; a unit is noted with the order of its events."""
        behind = self.journal.commit(transactional_id, epoch, appends)
        if is_unit(appends):
            self._has_committed = True
            self._note_unit(appends)
        return behind

    def _note_unit(self, appends: Sequence[Append]) -> None:
        partition = appends[0].partition
        inputs = self.journal.inputs_of(appends[0])
        # A task may keep the position of an input that none of its agents reads any more.
        able = [each for each in self.readers if each.partition == partition and each.topics <= inputs.keys()]
        reader = self.readers[max(able, key=lambda each: len(each.topics))]
        starts = {place.topic: offset for place, offset in reader.starts.items()}
        self.journal.note_unit(appends, starts)
        changelog = TopicPartition(appends[0].topic, partition)
        self.journal.history(changelog).lookups.update(self._lookups.committed(changelog, inputs))


class LinkedLog(SimulatedLog):
    """The log of one worker of a harness."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._link = link

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that starts at these offsets. Raises: TopicMismatch for a partition that is not there."""
        await self._link.hop()
        reader = self.new_reader(positions)
        self._link.readers[Inputs.of(positions)] = reader
        return reader

    def new_reader(self, positions: Mapping[TopicPartition, int]) -> "LinkedReader":
        """A reader for one of the worker's tasks, or of something else."""
        return LinkedReader(self._link, positions)

    async def writer(self, transactional_id: str) -> Writer:
        """A writer under this id; every older one is fenced when this returns."""
        await self._link.hop()
        return LinkedWriter(self._link, transactional_id)

    async def join(self, member: WorkerMember) -> Membership:
        """Become a worker of the app, among others."""
        await self._link.hop()
        return self._link.journal.group(member.app).join(member)

    async def close(self) -> None:
        """Disconnect; the dead have no way to."""
        if not self._link.fate.is_dead:
            await super().close()


class LinkedReader(SimulatedReader):
    """Dies with what it fetched, when a test says so."""

    def __init__(self, link: Link, positions: Mapping[TopicPartition, int]) -> None:
        super().__init__(link, positions)
        self.starts = dict(positions)
        self._fate = link.fate
        self._fetched: Sequence[Chunk] = ()

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """What has arrived since the last fetch; see the port."""
        # Kept until it is given: who stands still here may be cancelled, and asks again later.
        if not self._fetched:
            self._fetched = await super().fetch(records_max=records_max, bytes_max=bytes_max)
        if not self._fate.is_restoring:
            await self._fate.reach(CrashPoint.READ)
        fetched, self._fetched = self._fetched, ()
        return fetched


class LinkedWriter(SimulatedWriter):
    """Dies before or after a unit is committed."""

    def __init__(self, link: Link, transactional_id: str) -> None:
        super().__init__(link, transactional_id)
        self._fate = link.fate

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """Append all of it in one transaction; see the port."""
        if not is_unit(appends):
            return await super().commit(appends, closing)
        await self._fate.reach(CrashPoint.COMMIT)
        offsets = await super().commit(appends, closing)
        await self._fate.reach(CrashPoint.PUBLISH)
        return offsets
