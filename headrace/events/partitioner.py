"""Which partition a key lives in: the same answer that other producers of the topic give."""

import struct
import zlib
from enum import StrEnum
from functools import lru_cache

_KEYS_CACHED = 65_536
_CACHED_KEY_BYTES_MAX = 64
"""Longer keys are hashed each time: clients choose them, and a cache must stay small."""


class Partitioner(StrEnum):
    """How a topic's producers choose the partition of a key."""

    MURMUR2 = "murmur2"
    """Java's and aiokafka's default."""
    CRC32 = "crc32"
    """librdkafka's default."""

    def place(self, key: bytes, partitions: int) -> int:
        """The partition of a record key on a topic with so many partitions."""
        if partitions == 1:
            return 0
        if self is Partitioner.CRC32:
            return zlib.crc32(key) % partitions
        hashed = _murmur2_of_short(key) if len(key) <= _CACHED_KEY_BYTES_MAX else murmur2(key)
        return (hashed & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=_KEYS_CACHED)
def _murmur2_of_short(key: bytes) -> int:
    return murmur2(key)


def murmur2(data: bytes) -> int:
    """MurmurHash2 as Kafka's Java client computes it (seed 0x9747b28c), unsigned 32 bits."""
    mixer, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    state = 0x9747B28C ^ length
    whole = length & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = word * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        state = (state * mixer & mask) ^ word
    if whole != length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * mixer & mask
    state = (state ^ state >> 13) * mixer & mask
    return state ^ state >> 15
