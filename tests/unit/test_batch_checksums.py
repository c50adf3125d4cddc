"""Batches whose bytes were changed on the way are refused, whoever computes their checksums."""

import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from headrace.errors import LogError
from headrace.log.kafka import checksum
from headrace.log.kafka.records import Columns, MessageSet

VALUES = [b"value %d" % number for number in range(6)]
_CRC_AT = 17


@pytest.fixture(params=["by the processor", "by aiokafka"], autouse=True)
def crc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing it."""
    fast = checksum.fast_crc()
    assert fast is not None, "the extra `speed` is installed where tests run"
    monkeypatch.setattr(checksum, "_crc", fast if request.param == "by the processor" else None)


def batch(offset: int, *values: bytes) -> bytes:
    """A batch in the format of today, at this offset."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for at, value in enumerate(values):
        builder.append(at, 1_000, b"k", value, [])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, offset)
    return bytes(raw)


def read(data: bytes) -> Columns:
    columns = Columns()
    found = MessageSet(data, (), offset_next=0, high_watermark=-1)
    found.read_into(columns, records_max=100, bytes_max=1 << 20, until=float("inf"))
    return columns


def test_batches_are_read_one_after_the_other() -> None:
    columns = read(batch(0, *VALUES[:2]) + batch(2, VALUES[2]) + batch(3, *VALUES[3:]))
    assert (columns.values, columns.offsets) == (VALUES, list(range(6)))


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_changed_byte_is_found_in_whichever_batch_it_is_and_what_is_before_it_is_read(damaged: int) -> None:
    batches = [bytearray(batch(2 * number, *VALUES[2 * number : 2 * number + 2])) for number in range(3)]
    batches[damaged][-3] ^= 1
    columns = Columns()
    found = MessageSet(b"".join(batches), (), offset_next=0, high_watermark=-1)
    with pytest.raises(LogError, match="the checksum of a batch does not match") as refused:
        found.read_into(columns, records_max=100, bytes_max=1 << 20, until=float("inf"))
    assert refused.value.offset == 2 * damaged
    assert columns.values == VALUES[: 2 * damaged]


def test_every_byte_that_the_checksum_covers_counts() -> None:
    whole = batch(0, VALUES[0])
    for at in range(_CRC_AT, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        with pytest.raises(LogError):
            read(bytes(changed))


def test_batches_of_the_format_before_transactions_are_held_to_its_own_checksum() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    builder.append(0, timestamp=1_000, key=b"k", value=VALUES[0])
    builder.append(1, timestamp=1_000, key=b"k", value=VALUES[1])
    whole = bytes(builder.build())
    assert read(whole).values == VALUES[:2]
    changed = bytearray(whole)
    changed[-1] ^= 1
    with pytest.raises(LogError):
        read(bytes(changed))
