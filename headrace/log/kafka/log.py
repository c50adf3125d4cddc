"""The log on Apache Kafka."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import LogError, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.admin import Admin
from headrace.log.kafka.connections import Connections
from headrace.log.kafka.lanes import LANES_MAX, Lanes
from headrace.log.kafka.membership import KafkaMembership
from headrace.log.kafka.reader import KafkaReader
from headrace.log.kafka.security import connection_security
from headrace.log.kafka.transactions import Scheme
from headrace.log.kafka.writer import KafkaWriter
from headrace.log.port import Member, OffsetRange, TopicInfo, TopicSpec
from headrace.settings import Settings
from headrace.vitals import Kind, Vitals

logger = logging.getLogger(__name__)

_POLL_TIMEOUT_MIN_S = 2.0


class KafkaLog:
    """Facts in Kafka topics: transactional writers, `read_committed` readers, a group for membership."""

    def __init__(
        self,
        settings: Settings,
        *,
        address: str,
        vitals: Vitals | None = None,
        newest_scheme: Scheme = Scheme.EPOCH_PER_TRANSACTION,
        lanes_max: int = LANES_MAX,
    ) -> None:
        self._settings = settings
        self._vitals = vitals or Vitals()
        self._contact = self._vitals.add(Kind.BROKER, "the cluster")
        self._address = address
        self._security: Mapping[str, Any] = {}
        self._connections: Connections | None = None
        self._lanes = Lanes(lambda: self._connect("writers", settings.request_timeout_s), lanes_max)
        self._newest_scheme = newest_scheme
        self._admin_when_open: Admin | None = None
        self._memberships: dict[str, KafkaMembership] = {}
        self._cluster_id = ""

    async def open(self) -> None:
        """See `Log.open`."""
        self._security = await asyncio.to_thread(connection_security, self._settings)
        connections = self._connect("admin", self._settings.request_timeout_s)
        try:
            self._cluster_id = (await connections.metadata()).cluster_id
        except BaseException:
            await connections.close()
            raise
        self._contact.expect()
        self._connections = connections
        self._admin_when_open = Admin(connections, self._settings)

    async def close(self) -> None:
        """See `Log.close`."""
        self._contact.rest()
        if self._connections is not None:
            await self._connections.close()
        await self._lanes.close()
        self._connections = self._admin_when_open = None

    @property
    def cluster_id(self) -> str:
        """See `Log.cluster_id`."""
        return self._cluster_id

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """See `Log.provision`."""
        return await self._admin.provision(specs)

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """See `Log.describe`."""
        return await self._admin.describe(names)

    async def record_limits(self, names: Sequence[str]) -> Mapping[str, int]:
        """See `Log.record_limits`."""
        limits = {name: await self._admin.batch_bytes_max(name) for name in names}
        return {name: limit for name, limit in limits.items() if limit is not None}

    async def topics(self) -> Sequence[TopicInfo]:
        """See `Log.topics`."""
        return await self._admin.topics()

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        """See `Log.offsets`."""
        return await self._admin.offsets(places)

    async def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        """See `Log.reader`."""
        # A poll is answered within half a second: a node that is silent for a third of the patience
        # is given up, so that another leader can be found within it.
        timeout_s = max(self._settings.request_timeout_s / 3, _POLL_TIMEOUT_MIN_S)
        reader = KafkaReader(self._connect("reader", timeout_s), self._settings, positions, self._vitals)
        reader.open()
        return reader

    async def writer(self, transactional_id: str) -> KafkaWriter:
        """See `Log.writer`."""
        admin, lane = self._admin, self._lanes.take()
        writer = KafkaWriter(lane, self._settings, transactional_id, admin, newest_scheme=self._newest_scheme)
        try:
            await writer.open()
        except BaseException:
            await writer.close()
            raise
        return writer

    async def join(self, member: Member) -> KafkaMembership:
        """See `Log.join`."""
        # A join is answered when the slowest member has joined, or was given up.
        timeout_s = self._settings.session_timeout_s + self._settings.request_timeout_s
        connections = self._connect("membership", timeout_s)
        membership = KafkaMembership(connections, self._settings, member, self._vitals)
        membership.open()
        self._memberships[member.app] = membership
        return membership

    async def workers(self, app: str) -> Sequence[str]:
        """See `Log.workers`: one that was killed is a member until its session times out."""
        return await self._admin.members(app)

    async def record_lag(self, app: str, positions: Mapping[TopicPartition, int]) -> None:
        """See `Log.record_lag`; what goes wrong is only logged, at debug level."""
        membership = self._memberships.get(app)
        generation, member_id = membership.identity if membership is not None else (-1, "")
        try:
            await self._admin.commit_offsets(app, generation, member_id, positions)
        except LogError as error:
            logger.debug("positions of %s not left for lag tools: %s", app, error)

    @property
    def _admin(self) -> Admin:
        if self._admin_when_open is None:
            raise Unavailable("the log is not open")
        return self._admin_when_open

    def _connect(self, role: str, timeout_s: float) -> Connections:
        return Connections(
            self._address,
            self._security,
            client_id=f"headrace-{role}",
            timeout_s=timeout_s,
            contact=self._contact,
        )
