"""Records to append, built into the batches of one transaction, in slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from headrace.errors import RecordTooLarge
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Outgoing
from headrace.turns import Turns

_MAGIC = 2
_UNCOMPRESSED = 0
_TRANSACTIONAL = 1
_SEQUENCE_END = 2**31
_BATCH_HEAD_BYTES = 61
_CLOCK_EVERY = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """One encoded record batch; sent again it is the same bytes, so the broker sees the repetition."""

    place: TopicPartition
    data: bytes
    records: int


class ProducerState:
    """The identity that InitProducerId gave, and the next sequence number of each partition."""

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self._sequences: dict[TopicPartition, int] = {}

    def builder(self, place: TopicPartition, bytes_max: int) -> Any:
        """An empty batch that continues the partition's sequence."""
        sequence = self._sequences.get(place, 0)
        return DefaultRecordBatchBuilder(
            _MAGIC, _UNCOMPRESSED, _TRANSACTIONAL, self.producer_id, self.epoch, sequence, bytes_max
        )

    def advance(self, place: TopicPartition, records: int) -> None:
        """Count the records of a batch; sequence numbers wrap as brokers expect it."""
        self._sequences[place] = (self._sequences.get(place, 0) + records) % _SEQUENCE_END


class PendingAppend:
    """The records of one partition that are still to be encoded."""

    def __init__(self, append: Append, *, batch_bytes: int, bytes_max: int | None) -> None:
        self.place = TopicPartition(append.topic, append.partition)
        self._records: Sequence[Outgoing] = append.records
        self._batch_bytes = batch_bytes if bytes_max is None else min(batch_bytes, bytes_max)
        self._bytes_max = bytes_max
        self._next = 0

    @property
    def is_done(self) -> bool:
        """Whether every record is in a batch."""
        return self._next >= len(self._records)

    async def next_batch(self, state: ProducerState) -> Batch:
        """The next batch, of as many records as fit.

        Raises: RecordTooLarge for a record that no batch of this topic can hold.
        """
        builder = state.builder(self.place, self._batch_bytes)
        append, records, at = builder.append, self._records, self._next
        count, end = 0, len(records) - at
        with Turns() as turns:
            while count < end:
                key, value, headers, time_ms = records[at + count]
                carried = list(headers) if headers else []
                if append(count, time_ms, key=key, value=value, headers=carried) is None:
                    break
                count += 1
                if not count % _CLOCK_EVERY and turns.is_due:
                    await turns.give()
        data = bytes(builder.build())
        if self._bytes_max is not None and len(data) > self._bytes_max:
            # A builder always takes the first record, however large.
            raise too_large(self.place, len(data) - _BATCH_HEAD_BYTES, self._bytes_max)
        self._next = at + count
        state.advance(self.place, count)
        return Batch(self.place, data, count)


def too_large(place: TopicPartition, size_bytes: int, bytes_max: int | None = None) -> RecordTooLarge:
    """The error for a record that a topic does not take."""
    limit = f"; the topic takes {bytes_max}" if bytes_max is not None else ""
    what = f"a record of {size_bytes} bytes is larger than the log accepts{limit}"
    return RecordTooLarge(what, topic=place.topic, partition=place.partition)
