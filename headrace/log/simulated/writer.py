"""Writing the simulated log."""

from collections.abc import Mapping, Sequence

from headrace.errors import LogError
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Closing
from headrace.log.simulated.cluster import SimulatedCluster


class SimulatedWriter:
    """The holder of one transactional id in one epoch."""

    def __init__(self, cluster: SimulatedCluster, transactional_id: str) -> None:
        self._cluster = cluster
        self._transactional_id = transactional_id
        self._epoch = cluster.begin_epoch(transactional_id)
        self._is_usable = True

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """Append all of it in one transaction; see the port."""
        if not self._is_usable:
            raise LogError(
                f"the writer {self._transactional_id!r} has failed or was closed", hint="Take a new one."
            )
        self._is_usable = False
        # One hop to the log and one back: a cancel at the second one finds the unit committed.
        await self._cluster.hop()
        if closing is not None:
            last = closing.records(self._cluster.ends_behind(appends))
            appends = [*appends, Append(closing.topic, closing.partition, last)]
        offsets = self._cluster.commit(self._transactional_id, self._epoch, appends)
        await self._cluster.hop()
        self._is_usable = True
        return offsets

    async def close(self) -> None:
        """Let go of the id."""
        self._is_usable = False
