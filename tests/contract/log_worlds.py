"""What each implementation of the log needs around it to be tested by one suite."""

import uuid
from pathlib import Path
from typing import Protocol

from aiokafka.admin import AIOKafkaAdminClient

from headrace.log.embedded.log import EmbeddedLog
from headrace.log.kafka.log import KafkaLog
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Log
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.settings import Settings


class World(Protocol):
    """One cluster, to which any number of workers can connect."""

    def build(self) -> Log:
        """The log as one more worker has it, not yet opened."""

    def name(self, stem: str) -> str:
        """A name that nothing else in this cluster has."""

    async def delete(self, topic: str) -> None:
        """Remove a topic behind everybody's back."""


class EmbeddedWorld:
    """A file in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.db"

    def build(self) -> Log:
        return EmbeddedLog(self._path)

    def name(self, stem: str) -> str:
        return stem

    async def delete(self, topic: str) -> None:
        log = EmbeddedLog(self._path)
        await log.open()
        await log.delete([topic])
        await log.close()


class SimulatedWorld:
    """A cluster in memory."""

    def __init__(self) -> None:
        self._cluster = SimulatedCluster()

    def build(self) -> Log:
        return SimulatedLog(self._cluster)

    def name(self, stem: str) -> str:
        return stem

    async def delete(self, topic: str) -> None:
        self._cluster.delete(topic)


class KafkaWorld:
    """A broker that all tests of a session share."""

    def __init__(
        self, address: str, *, through: str = "", newest_scheme: Scheme = Scheme.EPOCH_PER_TRANSACTION
    ) -> None:
        self._address = address
        self._through = through or address
        self._newest_scheme = newest_scheme

    def build(self) -> Log:
        settings = Settings(log=f"kafka://{self._through}")
        return KafkaLog(settings, address=self._through, newest_scheme=self._newest_scheme)

    def name(self, stem: str) -> str:
        return f"{stem}-{uuid.uuid4().hex[:12]}"

    async def delete(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._address)
        await admin.start()
        try:
            await admin.delete_topics([topic])
        finally:
            await admin.close()
