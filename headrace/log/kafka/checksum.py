"""Checksums of batches: CRC-32C, by the processor itself where `crc32c` is installed (extra `speed`)."""

import struct
from collections.abc import Callable
from typing import Any

_MAGIC_AT, _CRC_AT, _COVERED_FROM = 16, 17, 21
_CRC = struct.Struct(">I")
_OWN_CRC_SINCE = 2
"""The format whose checksum is a CRC-32C over all that follows it (KIP-98); those before have another."""

Crc = Callable[[memoryview], int]


def fast_crc() -> Crc | None:
    """CRC-32C by the processor; None without the package."""
    try:
        from crc32c import crc32c
    except ImportError:
        return None
    return crc32c


_crc = fast_crc()


def is_intact(batch: Any, raw: memoryview) -> bool:
    """Whether a batch of aiokafka's, whose bytes these are, is what was sent."""
    if _crc is None or raw[_MAGIC_AT] < _OWN_CRC_SINCE:
        return bool(batch.validate_crc())
    return bool(_crc(raw[_COVERED_FROM:]) == _CRC.unpack_from(raw, _CRC_AT)[0])
