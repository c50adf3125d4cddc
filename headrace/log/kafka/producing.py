"""Batches on their way to the leaders of their partitions, sent until each is acknowledged."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from headrace.errors import RecordRefused, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.admin import Admin
from headrace.log.kafka.batches import Batch, too_large
from headrace.log.kafka.codes import DENIED, TOO_LARGE, TRY_AGAIN, Code, write_error
from headrace.log.kafka.connections import Connections
from headrace.log.kafka.coordinator import MARKERS_RETRY_S, RETRY_S
from headrace.log.kafka.transactions import Scheme, produce_request

logger = logging.getLogger(__name__)

_MISSING_TOPIC_S = 3.0
"""How long a topic may be unknown, as a new one is until every broker has heard of it."""


class Producing:
    """The leaders that one transactional id writes to."""

    def __init__(
        self, connections: Connections, transactional_id: str, admin: Admin, timeout_s: float
    ) -> None:
        self._connections = connections
        self._id = transactional_id
        self._admin = admin
        self._timeout_ms = int(timeout_s * 1000)
        self._leaders: dict[TopicPartition, int] = {}

    async def send(self, batches: Sequence[Batch], scheme: Scheme) -> dict[TopicPartition, int]:
        """Send one round until every batch of it is acknowledged; the offset after each batch.

        Raises: Fenced, Unavailable, RecordRefused, RecordTooLarge.
        """
        ends: dict[TopicPartition, int] = {}
        left = {batch.place: batch for batch in batches}
        while True:
            by_node: dict[int, list[Batch]] = defaultdict(list)
            await self.find_leaders(left)
            for batch in left.values():
                by_node[self._leaders[batch.place]].append(batch)
            answers = await asyncio.gather(*(self._send_to(n, b, scheme) for n, b in by_node.items()))
            wait_s = MARKERS_RETRY_S
            for place, code, base_offset in (each for answer in answers for each in answer):
                if code == Code.NONE:
                    ends[place] = base_offset + left.pop(place).records
                elif code in TRY_AGAIN:
                    self._leaders.pop(place, None)
                    wait_s = RETRY_S
                elif code != Code.CONCURRENT_TRANSACTIONS:
                    self._refuse(left[place], code)
            if not left:
                return ends
            await asyncio.sleep(wait_s)

    async def find_leaders(self, places: Iterable[TopicPartition]) -> None:
        """Make sure that each partition's leader is known. Raises: RecordRefused where there is none."""
        deadline = asyncio.get_running_loop().time() + _MISSING_TOPIC_S
        while unknown := [place for place in places if place not in self._leaders]:
            metadata = await self._connections.metadata(sorted({place.topic for place in unknown}))
            for place in unknown:
                view = metadata.topics.get(place.topic)
                if view is not None and view.error_code in DENIED:
                    raise write_error(self._id, place, view.error_code)
                if view is not None and view.leaders.get(place.partition, -1) >= 0:
                    self._leaders[place] = view.leaders[place.partition]
                elif asyncio.get_running_loop().time() >= deadline and (
                    view is None or place.partition not in view.leaders
                ):
                    topic, partition = place
                    raise RecordRefused("there is no such partition", topic=topic, partition=partition)
            if any(place not in self._leaders for place in unknown):
                await asyncio.sleep(RETRY_S)

    async def _send_to(
        self, node: int, batches: Sequence[Batch], scheme: Scheme
    ) -> list[tuple[TopicPartition, int, int]]:
        by_topic: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for batch in batches:
            by_topic[batch.place.topic].append((batch.place.partition, batch.data))
        request = produce_request(scheme, self._id, self._timeout_ms, list(by_topic.items()))
        try:
            response = await self._connections.send(node, request)
        except Unavailable as error:
            logger.debug("%s: %s", self._id, error)
            return [(batch.place, Code.NETWORK_EXCEPTION, -1) for batch in batches]
        return [
            (TopicPartition(topic, answer[0]), answer[1], answer[2])
            for topic, partitions, *_ in response.topics
            for answer in partitions
        ]

    def _refuse(self, batch: Batch, code: int) -> None:
        """Raises: what a code means for the unit."""
        if code in TOO_LARGE:
            self._admin.forget(batch.place.topic)
            if batch.records == 1:
                raise too_large(batch.place, len(batch.data))
        raise write_error(self._id, batch.place, code)
