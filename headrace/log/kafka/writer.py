"""One transactional id: its producer epoch, and the transactions committed under it.

Written over aiokafka's connection and batch builder instead of its producer, which sends EndTxn
again after a time-out (a late one can then end a later transaction), reports a commit although a
batch failed, and waits 20 ms for the markers of the previous transaction.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)

from headrace.errors import CommitUnknown, Fenced, LogError, RecordRefused, RecordTooLarge, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.admin import Admin
from headrace.log.kafka.batches import Batch, PendingAppend, ProducerState, too_large
from headrace.log.kafka.codes import COORDINATOR_MOVED, DENIED, LEADER_MOVED, Code, code_name, refusal
from headrace.log.kafka.connections import TRANSACTION, Connections
from headrace.log.kafka.patience import patience
from headrace.log.port import Append, Closing, Outgoing
from headrace.settings import Settings

logger = logging.getLogger(__name__)

_ALL_REPLICAS = -1
_BATCH_BYTES = 128 * 1024
_ROUND_BYTES_MAX = 256 * 1024
"""Bounds of one request, so that putting it on the wire stays short."""
_MARKERS_RETRY_S = 0.001
"""The markers of the previous transaction take a few milliseconds; asking again costs little."""
_RETRY_S = 0.05
_MISSING_TOPIC_S = 3.0
"""How long a topic may be unknown, as a new one is until every broker has heard of it."""
_ABORT_TIMEOUT_S = 1.0
_FENCED = frozenset(
    {
        Code.INVALID_PRODUCER_EPOCH,
        Code.PRODUCER_FENCED,
        Code.INVALID_PRODUCER_ID_MAPPING,
        Code.INVALID_TXN_STATE,
        Code.UNKNOWN_PRODUCER_ID,
    }
)
_TOO_LARGE = frozenset({Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE})
_TRY_AGAIN = LEADER_MOVED | {
    Code.REQUEST_TIMED_OUT,
    Code.NOT_ENOUGH_REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.CONCURRENT_TRANSACTIONS,
}


class KafkaWriter:
    """The holder of one transactional id; it owns its connections."""

    def __init__(
        self, connections: Connections, settings: Settings, transactional_id: str, admin: Admin
    ) -> None:
        self._connections = connections
        self._id = transactional_id
        self._admin = admin
        self._timeout_s = settings.request_timeout_s
        self._transaction_timeout_s = settings.transaction_timeout_s
        self._coordinator: int | None = None
        self._state = ProducerState(-1, -1)
        self._leaders: dict[TopicPartition, int] = {}
        self._is_usable = False
        self._has_begun = False

    async def open(self) -> None:
        """Fence every older holder and see its transaction ended. Raises: Unavailable, LogError."""
        timeout_ms = int(self._transaction_timeout_s * 1000)
        async with patience(self._timeout_s, f"transactional id {self._id} cannot be initialised"):
            while True:
                try:
                    response = await self._ask_coordinator(InitProducerIdRequest(self._id, timeout_ms))
                except Unavailable as error:
                    logger.debug("%s: %s", self._id, error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                code = response.error_code
                if code == Code.NONE:
                    break
                if code not in COORDINATOR_MOVED and code != Code.CONCURRENT_TRANSACTIONS:
                    raise refusal(f"transactional id {self._id} cannot be initialised", code)
                await asyncio.sleep(_MARKERS_RETRY_S if code == Code.CONCURRENT_TRANSACTIONS else _RETRY_S)
        self._state = ProducerState(response.producer_id, response.producer_epoch)
        self._is_usable = True

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """See `Writer.commit`."""
        if not self._is_usable:
            raise Unavailable(f"the writer of {self._id} was given up after an error")
        appends = _by_place(appends)
        if not appends and closing is None:
            return {}
        # Whatever ends this call early, a cancellation too, leaves a transaction that only the
        # next holder of the id can judge.
        self._is_usable = False
        self._has_begun = False
        try:
            async with patience(self._timeout_s, f"{self._id}: the unit was not acknowledged"):
                ends = await self._append_all(appends, closing)
        except (LogError, RecordTooLarge) as error:
            if isinstance(error, RecordTooLarge) and error.topic is not None:
                self._admin.forget(error.topic)
            if self._has_begun and not isinstance(error, Fenced):
                await self._abort()
            raise
        await self._end()
        self._is_usable = True
        return ends

    async def close(self) -> None:
        """See `Writer.close`."""
        self._is_usable = False
        await self._connections.close()

    async def _append_all(
        self, appends: Sequence[Append], closing: Closing | None
    ) -> dict[TopicPartition, int]:
        """Add every partition to the transaction, then send everything; the closing records are last."""
        pending = [await self._pending(append) for append in appends]
        places = [each.place for each in pending]
        if closing is not None:
            places.append(TopicPartition(closing.topic, closing.partition))
        batches = await self._encode_round(pending)
        await self._find_leaders(places)
        await self._add_partitions(places)
        ends = await self._send_all(pending, batches)
        if closing is not None:
            last = await self._pending(Append(closing.topic, closing.partition, closing.records(dict(ends))))
            ends.update(await self._send_all([last], await self._encode_round([last])))
        return ends

    async def _pending(self, append: Append) -> PendingAppend:
        limit = await self._admin.batch_bytes_max(append.topic)
        return PendingAppend(append, batch_bytes=_BATCH_BYTES, bytes_max=limit)

    async def _send_all(
        self, pending: Sequence[PendingAppend], batches: list[Batch]
    ) -> dict[TopicPartition, int]:
        """Encode and send every batch, one round encoding while the one before it is on its way."""
        ends: dict[TopicPartition, int] = {}
        while batches:
            sending = asyncio.create_task(self._produce(batches), name=f"{self._id}-produce")
            try:
                batches = await self._encode_round(pending)
                ends.update(await sending)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        return ends

    async def _encode_round(self, pending: Sequence[PendingAppend]) -> list[Batch]:
        """At most one batch of each partition, which is what one produce request may carry."""
        batches: list[Batch] = []
        size_bytes = 0
        for each in pending:
            if each.is_done or size_bytes >= _ROUND_BYTES_MAX:
                continue
            batches.append(await each.next_batch(self._state))
            size_bytes += len(batches[-1].data)
        return batches

    async def _add_partitions(self, places: Sequence[TopicPartition]) -> None:
        by_topic: dict[str, list[int]] = defaultdict(list)
        for topic, partition in places:
            by_topic[topic].append(partition)
        state = self._state
        request = AddPartitionsToTxnRequest(self._id, state.producer_id, state.epoch, list(by_topic.items()))
        while True:
            self._has_begun = True
            try:
                response = await self._ask_coordinator(request)
            except Unavailable as error:
                logger.debug("%s: %s", self._id, error)
                await asyncio.sleep(_RETRY_S)
                continue
            codes = {(t, p): code for t, partitions in response.errors for p, code in partitions}
            if not any(codes.values()):
                return
            if any(code in COORDINATOR_MOVED for code in codes.values()):
                self._coordinator = None
            await asyncio.sleep(self._wait_for(codes))

    def _wait_for(self, codes: Mapping[tuple[str, int], int]) -> float:
        """How long to wait before the partitions are added again. Raises: what no waiting cures."""
        wait_s = _MARKERS_RETRY_S
        for (topic, partition), code in codes.items():
            if code in (Code.NONE, Code.OPERATION_NOT_ATTEMPTED, Code.CONCURRENT_TRANSACTIONS):
                continue
            if code not in COORDINATOR_MOVED and code not in _TRY_AGAIN:
                raise self._error(TopicPartition(topic, partition), code)
            wait_s = _RETRY_S
        return wait_s

    async def _produce(self, batches: Sequence[Batch]) -> dict[TopicPartition, int]:
        """Send one round until every batch of it is acknowledged; the offset after each batch."""
        ends: dict[TopicPartition, int] = {}
        left = {batch.place: batch for batch in batches}
        while True:
            by_node: dict[int, list[Batch]] = defaultdict(list)
            await self._find_leaders(left)
            for batch in left.values():
                by_node[self._leaders[batch.place]].append(batch)
            answers = await asyncio.gather(*(self._produce_at(n, b) for n, b in by_node.items()))
            for place, code, base_offset in (each for answer in answers for each in answer):
                batch = left[place]
                if code == Code.NONE:
                    ends[place] = base_offset + batch.records
                    del left[place]
                elif code in _TRY_AGAIN:
                    self._leaders.pop(place, None)
                else:
                    raise self._error(place, code, batch)
            if not left:
                return ends
            await asyncio.sleep(_RETRY_S)

    async def _produce_at(self, node: int, batches: Sequence[Batch]) -> list[tuple[TopicPartition, int, int]]:
        by_topic: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for batch in batches:
            by_topic[batch.place.topic].append((batch.place.partition, batch.data))
        timeout_ms = int(self._timeout_s * 1000)
        request = ProduceRequest(self._id, _ALL_REPLICAS, timeout_ms, list(by_topic.items()))
        try:
            response = await self._connections.send(node, request)
        except Unavailable as error:
            logger.debug("%s: %s", self._id, error)
            return [(batch.place, Code.NETWORK_EXCEPTION, -1) for batch in batches]
        return [
            (TopicPartition(topic, answer[0]), answer[1], answer[2])
            for topic, partitions in response.topics
            for answer in partitions
        ]

    async def _find_leaders(self, places: Iterable[TopicPartition]) -> None:
        """Make sure that each partition's leader is known. Raises: RecordRefused where there is none."""
        deadline = asyncio.get_running_loop().time() + _MISSING_TOPIC_S
        while unknown := [place for place in places if place not in self._leaders]:
            metadata = await self._connections.metadata(sorted({place.topic for place in unknown}))
            for place in unknown:
                view = metadata.topics.get(place.topic)
                if view is not None and view.error_code in DENIED:
                    raise self._error(place, view.error_code)
                if view is not None and view.leaders.get(place.partition, -1) >= 0:
                    self._leaders[place] = view.leaders[place.partition]
                elif asyncio.get_running_loop().time() >= deadline and (
                    view is None or place.partition not in view.leaders
                ):
                    topic, partition = place
                    raise RecordRefused("there is no such partition", topic=topic, partition=partition)
            if any(place not in self._leaders for place in unknown):
                await asyncio.sleep(_RETRY_S)

    async def _end(self) -> None:
        """Commit. An EndTxn without an answer is never sent again: it could end a later transaction."""
        request = EndTxnRequest(self._id, self._state.producer_id, self._state.epoch, True)
        was_sent = False
        try:
            async with patience(self._timeout_s, f"{self._id}: the commit was not answered"):
                while True:
                    node = await self._find_coordinator()
                    was_sent = True
                    code = (await self._connections.send(node, request)).error_code
                    if code == Code.NONE:
                        return
                    # An answered request is no longer on its way, so that it may be repeated.
                    if code in COORDINATOR_MOVED:
                        self._coordinator = None
                    elif code in _FENCED:
                        raise Fenced(f"{self._id}: {code_name(code)}")
                    elif code != Code.CONCURRENT_TRANSACTIONS:
                        raise CommitUnknown(f"{self._id}: {code_name(code)}")
                    await asyncio.sleep(_RETRY_S)
        except Unavailable as error:
            if not was_sent:
                raise
            raise CommitUnknown(f"{self._id}: {error.what}") from error

    async def _abort(self) -> None:
        """Try to end the transaction, so that readers need not wait for its time-out."""
        request = EndTxnRequest(self._id, self._state.producer_id, self._state.epoch, False)
        try:
            async with patience(_ABORT_TIMEOUT_S, "the abort was not answered"):
                await self._ask_coordinator(request)
        except LogError as error:
            logger.debug("%s: %s", self._id, error)

    async def _ask_coordinator(self, request: Any) -> Any:
        """The coordinator's answer; it is looked up anew after it moved or fell silent."""
        node = await self._find_coordinator()
        try:
            response = await self._connections.send(node, request)
        except Unavailable:
            self._coordinator = None
            raise
        if getattr(response, "error_code", Code.NONE) in COORDINATOR_MOVED:
            self._coordinator = None
        return response

    async def _find_coordinator(self) -> int:
        """The node that coordinates this id, with a connection to it."""
        if self._coordinator is None:
            self._coordinator = await self._connections.coordinator(TRANSACTION, self._id)
        try:
            await self._connections.connect(self._coordinator)
        except Unavailable:
            self._coordinator = None
            raise
        return self._coordinator

    def _error(
        self, place: TopicPartition, code: int, batch: Batch | None = None
    ) -> LogError | RecordTooLarge:
        """What a code means for the unit."""
        topic, partition = place
        if code in _FENCED:
            return Fenced(f"{self._id}: {code_name(code)}", topic=topic, partition=partition)
        if code in DENIED:
            return refusal("it cannot be written", code, topic=topic, partition=partition)
        if code in (Code.OUT_OF_ORDER_SEQUENCE, Code.DUPLICATE_SEQUENCE):
            return Unavailable(f"{self._id}: {code_name(code)}", topic=topic, partition=partition)
        if code in _TOO_LARGE and batch is not None:
            self._admin.forget(topic)
            if batch.records == 1:
                return too_large(place, len(batch.data))
        return RecordRefused(f"{self._id}: {code_name(code)}", topic=topic, partition=partition)


def _by_place(appends: Sequence[Append]) -> list[Append]:
    """One append per partition, in the order in which their records were named."""
    records: dict[TopicPartition, list[Outgoing]] = defaultdict(list)
    for append in appends:
        if append.records:
            records[TopicPartition(append.topic, append.partition)] += append.records
    return [Append(topic, partition, named) for (topic, partition), named in records.items()]
