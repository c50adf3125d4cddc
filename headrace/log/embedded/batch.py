"""A run of records as one blob: columns in msgpack, so that it is encoded and decoded in one go."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from headrace.errors import RecordRefused, RecordTooLarge
from headrace.events.envelope import Headers
from headrace.log.port import Outgoing

BATCH_RECORDS_MAX = 1_000
BATCH_BYTES_MAX = 256 * 1024
"""Bounds of a batch, so that coding one never holds the interpreter for long."""

_Blob = tuple[
    list[int] | None,  # offsets from the base; None: dense
    list[int],
    list[bytes | None],
    list[bytes | None],
    list[tuple[tuple[str, bytes], ...]] | None,  # None: no record has headers
]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Blob).decode


class Columns(NamedTuple):
    """Records by columns, in offset order."""

    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]

    def between(self, begin: int, end: int) -> "Columns":
        """The records from index `begin` up to before `end`."""
        return Columns(
            self.offsets[begin:end],
            self.timestamps_ms[begin:end],
            self.keys[begin:end],
            self.values[begin:end],
            self.headers[begin:end],
        )

    def only(self, indexes: Sequence[int]) -> "Columns":
        """The records at these indexes."""
        return Columns(
            [self.offsets[at] for at in indexes],
            [self.timestamps_ms[at] for at in indexes],
            [self.keys[at] for at in indexes],
            [self.values[at] for at in indexes],
            [self.headers[at] for at in indexes],
        )

    def sizes(self) -> Iterator[int]:
        """Bytes of each record."""
        return (
            record_bytes(key, value, headers)
            for key, value, headers in zip(self.keys, self.values, self.headers, strict=True)
        )


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """How large a record counts: key, value and headers."""
    size = 0 if key is None else len(key)
    if value is not None:
        size += len(value)
    for name, content in headers:
        size += len(name) + len(content)
    return size


class Batch(NamedTuple):
    """Records that become one row."""

    records: Sequence[Outgoing]
    bytes: int


def batches(
    records: Sequence[Outgoing], *, record_bytes_max: int, is_keyed: bool, topic: str, partition: int
) -> Iterator[Batch]:
    """The records cut into batches. Raises: RecordTooLarge, RecordRefused for a missing key."""
    begin = size = 0
    for at, (key, value, headers, _) in enumerate(records):
        if is_keyed and key is None:
            raise RecordRefused(
                "a compacted topic takes no record without a key", topic=topic, partition=partition
            )
        added = record_bytes(key, value, headers)
        if added > record_bytes_max:
            raise RecordTooLarge(
                f"a record of {added} bytes is above the limit of {record_bytes_max}",
                topic=topic,
                partition=partition,
            )
        if at > begin and (at - begin == BATCH_RECORDS_MAX or size + added > BATCH_BYTES_MAX):
            yield Batch(records[begin:at], size)
            begin, size = at, 0
        size += added
    if begin < len(records):
        yield Batch(records[begin:], size)


def encode_records(records: Sequence[Outgoing]) -> bytes:
    """The blob of records that lie densely behind their base offset."""
    keys, values, headers, timestamps_ms = zip(*records, strict=True)
    return _encode((None, timestamps_ms, keys, values, headers if any(headers) else None))


def encode_columns(columns: Columns, base_offset: int) -> bytes:
    """The blob of records that may have gaps between their offsets."""
    deltas = [offset - base_offset for offset in columns.offsets]
    headers = columns.headers if any(columns.headers) else None
    return _encode((deltas, columns.timestamps_ms, columns.keys, columns.values, headers))


def decode_columns(blob: bytes, base_offset: int) -> Columns:
    """The records behind a blob."""
    deltas, timestamps_ms, keys, values, headers = _decode(blob)
    offsets: Sequence[int]
    if deltas is None:
        offsets = range(base_offset, base_offset + len(keys))
    else:
        offsets = [base_offset + delta for delta in deltas]
    return Columns(offsets, timestamps_ms, keys, values, headers or [()] * len(keys))
