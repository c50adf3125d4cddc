"""Which partition a key lives in: the same answer that other producers of the topic give."""

import struct
import zlib
from enum import StrEnum
from functools import lru_cache

_KEYS_CACHED = 65_536


class Partitioner(StrEnum):
    """How a topic's producers choose the partition of a key."""

    MURMUR2 = "murmur2"
    """Java's and aiokafka's default."""
    CRC32 = "crc32"
    """librdkafka's default."""

    def place(self, key: bytes, partitions: int) -> int:
        """The partition of a record key on a topic with so many partitions."""
        if self is Partitioner.CRC32:
            return zlib.crc32(key) % partitions
        return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=_KEYS_CACHED)
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
