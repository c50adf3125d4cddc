"""The embedded log: one SQLite file that the apps of one machine share."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace.errors import Unavailable
from headrace.events.position import TopicPartition
from headrace.log.embedded import connection, topics
from headrace.log.embedded.lane import Lane
from headrace.log.embedded.maintenance import Maintenance
from headrace.log.embedded.membership import EmbeddedMembership, running_workers
from headrace.log.embedded.reader import EmbeddedReader
from headrace.log.embedded.watch import EndWatch
from headrace.log.embedded.writer import EmbeddedWriter, begin_epoch
from headrace.log.port import Member, Membership, OffsetRange, Reader, TopicInfo, TopicSpec, Writer
from headrace.vitals import Vitals


class EmbeddedLog:
    """The log port over one SQLite file, for development, demos and small deployments.

    Several apps share the file, each in a process of its own. What a power loss may cost is told
    in `connection`.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], float] = time.time, vitals: Vitals | None = None
    ) -> None:
        self._path = Path(path).absolute()
        self._clock = clock
        self._vitals = vitals or Vitals()
        self._cluster_id = ""
        self._writing = Lane(self._path, "write")
        self._reading = Lane(self._path, "read")
        self._watch: EndWatch | None = None
        self._maintenance: Maintenance | None = None

    async def open(self) -> None:
        """Open the file, which is created with its folder if need be. Raises: LogError."""
        try:
            self._cluster_id = await asyncio.to_thread(connection.create, self._path)
        except sqlite3.Error as error:
            raise connection.translated(error, self._path) from error
        except OSError as error:
            raise Unavailable(f"the folder of {self._path} cannot be made: {error}") from error
        self._watch = EndWatch(self._path, asyncio.get_running_loop(), self._vitals)
        self._maintenance = Maintenance(self._reading, self._writing, self._clock)
        self._maintenance.start()

    async def close(self) -> None:
        """Close the file."""
        if self._maintenance is not None:
            await self._maintenance.close()
        if self._watch is not None:
            await self._watch.close()
        await self._writing.close()
        await self._reading.close()

    @property
    def cluster_id(self) -> str:
        """Given to the file when it was created."""
        return self._cluster_id

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create the topics that are missing and verify the others. Raises: TopicMismatch."""
        return await self._writing.run(topics.provision, specs)

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """The topics that exist among these."""
        return await self._reading.run(topics.describe, names)

    async def record_limits(self, names: Sequence[str]) -> Mapping[str, int]:
        """The largest record that each of these takes."""
        return await self._reading.run(topics.record_limits, names)

    async def topics(self) -> Sequence[TopicInfo]:
        """Every topic, in name order."""
        return await self._reading.run(topics.every_topic)

    async def delete(self, names: Sequence[str]) -> None:
        """Remove topics with all their records; those that do not exist are none to remove."""
        await self._writing.run(topics.delete, names)

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        """What these partitions hold now. Raises: TopicMismatch."""
        return await self._reading.run(topics.ranges, places)

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that starts at these offsets. Raises: TopicMismatch for a partition that is not there."""
        places = await self._reading.run(topics.place_ids, list(positions))
        return EmbeddedReader(self._reading, self._opened(), places, positions, self._vitals)

    async def writer(self, transactional_id: str) -> Writer:
        """A writer under this id; every older one is fenced when this returns."""
        watch = self._opened()
        epoch = await self._writing.run(begin_epoch, transactional_id)
        return EmbeddedWriter(self._writing, transactional_id, epoch, clock=self._clock, ends=watch.committed)

    async def join(self, member: Member) -> Membership:
        """Become the only worker of the app. Raises: AlreadyRunning."""
        return EmbeddedMembership.take(self._path, member)

    async def workers(self, app: str) -> Sequence[str]:
        """The process that holds the app's lock; none while nobody does."""
        return await asyncio.to_thread(running_workers, self._path, app)

    async def record_lag(self, app: str, positions: Mapping[TopicPartition, int]) -> None:
        """Leave positions in the table `lag`."""
        await self._writing.run(topics.record_lag, app, positions, int(self._clock() * 1_000))

    async def maintain(self) -> None:
        """One round of retention and compaction, now; they also run by themselves now and then."""
        self._opened()
        assert self._maintenance is not None
        await self._maintenance.round()

    def _opened(self) -> EndWatch:
        assert self._watch is not None, "the log is used before it is opened"
        return self._watch
