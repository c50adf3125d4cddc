"""Keys land where Java's, aiokafka's and librdkafka's producers put them."""

import pytest

from headrace.events.partitioner import Partitioner, murmur2

KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KNOWN.items())
def test_murmur2_is_that_of_kafkas_own_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF
    assert Partitioner.MURMUR2.place(key, 8) == (signed & 0x7FFFFFFF) % 8


def test_crc32_is_the_checksum_of_the_standard_modulo_the_partitions() -> None:
    assert Partitioner.CRC32.place(b"123456789", 2**32) == 0xCBF43926
    assert Partitioner.CRC32.place(b"123456789", 8) == 0xCBF43926 % 8


@pytest.mark.parametrize("partitioner", list(Partitioner))
def test_every_key_has_a_partition(partitioner: Partitioner) -> None:
    assert {partitioner.place(b"%d" % key, 8) for key in range(1_000)} == set(range(8))
    assert partitioner.place(b"", 1) == 0
