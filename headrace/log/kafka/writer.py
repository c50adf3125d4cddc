"""One transactional id: its producer epoch, and the transactions committed under it.

Written over aiokafka's connection and batch builder instead of its producer, which sends EndTxn
again after a time-out (a late one can then end a later transaction), reports a commit although a
batch failed, and waits 20 ms for the markers of the previous transaction.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from headrace.errors import Fenced, LogError, RecordTooLarge, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.admin import Admin
from headrace.log.kafka.batches import Batch, PendingAppend
from headrace.log.kafka.coordinator import Coordinator
from headrace.log.kafka.lanes import Lane
from headrace.log.kafka.patience import patience
from headrace.log.kafka.producing import Producing
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Append, Closing, Outgoing
from headrace.settings import Settings

_BATCH_BYTES = 128 * 1024
_ROUND_BYTES_MAX = 256 * 1024
"""Bounds of one request, so that putting it on the wire stays short."""


class KafkaWriter:
    """The holder of one transactional id, over connections that others share."""

    def __init__(
        self, lane: Lane, settings: Settings, transactional_id: str, admin: Admin, *, newest_scheme: Scheme
    ) -> None:
        self._id = transactional_id
        self._admin = admin
        self._timeout_s = settings.request_timeout_s
        self._transaction_timeout_s = settings.transaction_timeout_s
        self._lane: Lane | None = lane
        self._coordinator = Coordinator(lane.connections, transactional_id, self._timeout_s)
        self._producing = Producing(lane.connections, transactional_id, admin, self._timeout_s)
        self._newest_scheme = newest_scheme
        self._is_usable = False
        self._has_begun = False

    async def open(self) -> None:
        """Fence every older holder and see its transaction ended. Raises: Unavailable, LogError."""
        await self._coordinator.initialise(self._transaction_timeout_s, self._newest_scheme)
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
                await self._coordinator.abort()
            raise
        if self._has_begun:  # a closing without records may be all there is
            await self._coordinator.commit()
        self._is_usable = True
        return ends

    async def close(self) -> None:
        """See `Writer.close`."""
        self._is_usable = False
        if self._lane is not None:
            self._lane.give_back()
            self._lane = None

    async def _append_all(
        self, appends: Sequence[Append], closing: Closing | None
    ) -> dict[TopicPartition, int]:
        """Send everything; the closing records are last."""
        pending = [await self._pending(append) for append in appends]
        places = [each.place for each in pending]
        if closing is not None:
            places.append(TopicPartition(closing.topic, closing.partition))
        batches = await self._encode_round(pending)
        await self._producing.find_leaders(places)
        if self._coordinator.wants_partitions_first:
            self._has_begun = True
            await self._coordinator.add(places)
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
            self._has_begun = True
            round_ = self._producing.send(batches, self._coordinator.scheme)
            sending = asyncio.create_task(round_, name=f"{self._id}-produce")
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
            batches.append(await each.next_batch(self._coordinator.state))
            size_bytes += len(batches[-1].data)
        return batches


def _by_place(appends: Sequence[Append]) -> list[Append]:
    """One append per partition, in the order in which their records were named."""
    records: dict[TopicPartition, list[Outgoing]] = defaultdict(list)
    for append in appends:
        if append.records:
            records[TopicPartition(append.topic, append.partition)] += append.records
    return [Append(topic, partition, named) for (topic, partition), named in records.items()]
