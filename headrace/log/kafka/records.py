"""Message sets as brokers send them, read into columns when they are asked for."""

import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from aiokafka.record.memory_records import MemoryRecords

from headrace.errors import LogError
from headrace.events.envelope import Headers
from headrace.log.kafka.checksum import is_intact

_PREFIX = struct.Struct(">qiib")  # base offset, length, leader epoch, magic
_LAST_OFFSET_DELTA = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT = 23
_LENGTH_ENDS_AT = 12
_CONTROL_KEY = struct.Struct(">hh")  # version, type
_ABORT = 0
_RECORD_OVERHEAD_BYTES = 32
_CLOCK_EVERY = 256
_UNPACKED_AT_ONCE_BYTES = 16 * 1024


class Columns:
    """Records of one partition on their way into a chunk."""

    __slots__ = ("headers", "keys", "offsets", "size_bytes", "timestamps_ms", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.timestamps_ms: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers] = []
        self.size_bytes = 0
        """About what the records of these columns take."""

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, count: int) -> "Columns":
        """Take the first `count` records out."""
        first = Columns()
        for name in ("offsets", "timestamps_ms", "keys", "values", "headers"):
            column = getattr(self, name)
            setattr(first, name, column[:count])
            del column[:count]
        first.size_bytes = self.size_bytes * count // (count + len(self) or 1)
        self.size_bytes -= first.size_bytes
        return first


class MessageSet:
    """One fetched message set of a partition: committed records from `offset_next` on."""

    def __init__(
        self, data: bytes, aborted: Sequence[tuple[int, int]], *, offset_next: int, high_watermark: int
    ) -> None:
        self.size_bytes = len(data)
        self.high_watermark = high_watermark
        self.offset_next = offset_next
        """Where reading goes on; beyond the last record that was handed out."""
        self._batches = MemoryRecords(data)
        self._raw = memoryview(data)
        self._batch_at = 0
        """Where in it the next batch begins."""
        self._aborted = deque(sorted(aborted, key=lambda transaction: transaction[1]))
        self._aborted_producers: set[int] = set()
        self._batch: Iterator[Any] | None = None
        self._packed: Any = None
        self._offset_after_batch = offset_next

    def read_into(self, columns: Columns, *, records_max: int, bytes_max: int, until: float) -> bool:
        """Append records until the columns or the time (`perf_counter`) are full; whether the set is used up.

        At least one record is taken, unless the set `must_unpack`. Raises: LogError when a checksum
        does not match.
        """
        while self._batch is not None or self._batches.has_next():
            if self._batch is None:
                self._open_batch()
            if self._packed is not None:
                return False
            if self._batch is not None and self._fill(columns, records_max, bytes_max, until):
                return False
            if time.perf_counter() >= until:
                return False
        return True

    @property
    def must_unpack(self) -> bool:
        """Whether reading goes on only after `unpack`."""
        return self._packed is not None

    def unpack(self) -> None:
        """Decompress the batch that is next; it may take long, and may run in a thread."""
        # The slice may be left and taken up again, unlike the batch itself.
        self._batch = islice(self._packed, None)
        self._packed = None

    def _fill(self, columns: Columns, records_max: int, bytes_max: int, until: float) -> bool:
        """Append from the open batch; whether it stopped before the end of the batch."""
        assert self._batch is not None
        offsets, timestamps, headers = columns.offsets, columns.timestamps_ms, columns.headers
        keys, values = columns.keys, columns.values
        offset_next, size_bytes = self.offset_next, columns.size_bytes
        try:
            for record in self._batch:
                offset = record.offset
                if offset < offset_next:
                    continue  # the batch began before the position
                key, value, carried = record.key, record.value, record.headers
                offsets.append(offset)
                timestamps.append(record.timestamp)
                keys.append(key)
                values.append(value)
                if len(carried) == 1 and carried[0][1]:
                    headers.append(carried)
                else:
                    headers.append([(name, content or b"") for name, content in carried] if carried else ())
                size_bytes += _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
                offset_next = offset + 1
                count = len(offsets)
                if count >= records_max or size_bytes >= bytes_max:
                    return True
                if not count % _CLOCK_EVERY and time.perf_counter() >= until:
                    return True
            # Beyond what compaction removed from the end of the batch.
            offset_next = max(offset_next, self._offset_after_batch)
            self._batch = None
            return False
        finally:
            # Also when the batch turns out to be damaged: position and columns stay in step.
            self.offset_next, columns.size_bytes = offset_next, size_bytes

    def _open_batch(self) -> None:
        """Open the next batch, or step over it when it holds no committed records."""
        batch: Any = self._batches.next_batch()
        begin = self._batch_at
        offset, length, *_ = _PREFIX.unpack_from(self._raw, begin)
        self._batch_at += _LENGTH_ENDS_AT + length
        if not is_intact(batch, self._raw[begin : self._batch_at]):
            hint = "Compare the replicas of this partition; the log or the network damaged it."
            raise LogError("the checksum of a batch does not match", offset=offset, hint=hint)
        if self._is_visible(batch):
            self._offset_after_batch = batch.next_offset
            self._packed = batch
            # Formats before transactions do not tell whether they are compressed; they are read at once.
            is_packed = batch.producer_id is not None and batch.compression_type
            if not is_packed or self.size_bytes < _UNPACKED_AT_ONCE_BYTES:
                self.unpack()
        else:
            self.offset_next = max(self.offset_next, batch.next_offset)

    def _is_visible(self, batch: Any) -> bool:
        """Whether the batch holds records of no, or of a committed, transaction."""
        producer_id = batch.producer_id
        if producer_id is None:
            return True  # a format older than transactions
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._aborted_producers.add(self._aborted.popleft()[0])
        if batch.is_control_batch:
            if _is_abort_marker(batch):
                self._aborted_producers.discard(producer_id)
            return False
        return not (batch.is_transactional and producer_id in self._aborted_producers)


def offset_after(data: bytes, offset: int) -> int:
    """The offset after the last whole batch of a message set; `offset` when it has none."""
    at, size = 0, len(data)
    while at + _LAST_OFFSET_DELTA_AT + _LAST_OFFSET_DELTA.size <= size:
        base, length, _, magic = _PREFIX.unpack_from(data, at)
        end = at + _LENGTH_ENDS_AT + length
        if end > size:
            break  # the broker cuts the last batch where the answer is full
        delta = _LAST_OFFSET_DELTA.unpack_from(data, at + _LAST_OFFSET_DELTA_AT)[0] if magic >= 2 else 0
        offset = max(offset, base + delta + 1)
        at = end
    return offset


def _is_abort_marker(batch: Any) -> bool:
    for record in batch:
        return bool(_CONTROL_KEY.unpack_from(record.key)[1] == _ABORT)
    return False
