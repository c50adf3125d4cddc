"""The simulated log: the port in memory, on the event loop alone."""

from collections.abc import Mapping, Sequence

from headrace.events.position import TopicPartition
from headrace.log.port import Member, Membership, OffsetRange, Reader, TopicInfo, TopicSpec, Writer
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.reader import SimulatedReader
from headrace.log.simulated.writer import SimulatedWriter


class SimulatedLog:
    """One worker's way to a simulated cluster; workers that share the cluster are workers of one log."""

    def __init__(self, cluster: SimulatedCluster | None = None) -> None:
        self.cluster = SimulatedCluster() if cluster is None else cluster

    async def open(self) -> None:
        """Connect."""
        await self.cluster.hop()

    async def close(self) -> None:
        """Disconnect; what the cluster holds stays."""
        await self.cluster.hop()

    @property
    def cluster_id(self) -> str:
        """Identity of the cluster."""
        return self.cluster.cluster_id

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create the topics that are missing and verify the others. Raises: TopicMismatch."""
        await self.cluster.hop()
        return self.cluster.provision(specs)

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """The topics that exist among these."""
        await self.cluster.hop()
        return {name: self.cluster.topics[name].info for name in names if name in self.cluster.topics}

    async def record_limits(self, names: Sequence[str]) -> Mapping[str, int]:
        """The largest record that each of these takes."""
        await self.cluster.hop()
        return {name: self.cluster.topics[name].record_bytes_max for name in names}

    async def topics(self) -> Sequence[TopicInfo]:
        """Every topic, in name order."""
        await self.cluster.hop()
        return [self.cluster.topics[name].info for name in sorted(self.cluster.topics)]

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        """What these partitions hold now. Raises: TopicMismatch."""
        await self.cluster.hop()
        return {place: self.cluster.range(place) for place in places}

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that starts at these offsets. Raises: TopicMismatch for a partition that is not there."""
        await self.cluster.hop()
        return SimulatedReader(self.cluster, positions)

    async def writer(self, transactional_id: str) -> Writer:
        """A writer under this id; every older one is fenced when this returns."""
        await self.cluster.hop()
        return SimulatedWriter(self.cluster, transactional_id)

    async def join(self, member: Member) -> Membership:
        """Become a worker of the app, among others."""
        await self.cluster.hop()
        return self.cluster.group(member.app).join(member)

    async def workers(self, app: str) -> Sequence[str]:
        """The instances that are members of the app's group."""
        await self.cluster.hop()
        return sorted(self.cluster.group(app).members)

    async def record_lag(self, app: str, positions: Mapping[TopicPartition, int]) -> None:
        """Leave positions in `cluster.lag`."""
        await self.cluster.hop()
        self.cluster.lag.setdefault(app, {}).update(positions)
