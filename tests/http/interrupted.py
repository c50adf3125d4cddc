"""A log on which the commits of requests fail when a test says so."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import HeadraceError
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Closing, Writer
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog


class InterruptedLog:
    """A log whose commits can be made to fail, before or after they take effect."""

    def __init__(self, cluster: SimulatedCluster | None = None) -> None:
        self.log = SimulatedLog(cluster)
        self.error: HeadraceError | None = None
        """What the next commit of a request ends in."""
        self.takes_effect = True
        """Whether it is committed all the same."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    async def writer(self, transactional_id: str) -> Writer:
        """A writer, which can be interrupted if it is one of recorded requests."""
        writer = await self.log.writer(transactional_id)
        return _Interrupted(self, writer) if "-requests-" in transactional_id else writer


class _Interrupted:
    def __init__(self, log: InterruptedLog, writer: Writer) -> None:
        self._log = log
        self._writer = writer

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        error, self._log.error = self._log.error, None
        if error is None or self._log.takes_effect:
            ends = await self._writer.commit(appends, closing)
        if error is not None:
            raise error
        return ends

    async def close(self) -> None:
        await self._writer.close()
