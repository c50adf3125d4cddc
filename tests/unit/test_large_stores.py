"""Stores with many rows are read as fast as small ones: no read fetches what belongs to all rows."""

from pathlib import Path

from headrace.tables.rocksdb import RocksEngine, RocksStore

_ROWS = 600_000
_BATCH_ROWS = 2_000
_READS = 100
_SMALL_CACHE_BYTES = 8 * 1024 * 1024
"""A shard of it is smaller than the filter of so many keys would be in one piece."""


def key(number: int) -> bytes:
    return b"balances\0%08d" % number


def bytes_read() -> int:
    """What this process has read from files so far, from the page cache or not."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


def test_a_row_that_was_read_before_is_read_again_without_reading_the_files_filter(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, cache_bytes=_SMALL_CACHE_BYTES, write_buffer_bytes=64 * 1024 * 1024)
    store = engine.open("main", 0)
    for start in range(0, _ROWS, _BATCH_ROWS):
        store.write([(key(number), b"0") for number in range(start, start + _BATCH_ROWS)], b"mark")
    assert isinstance(store, RocksStore)
    store._handle.compact_range(None, None)
    chosen = [key(number) for number in range(0, _READS)]
    for each in chosen:
        assert store.get(each) == b"0"
    before = bytes_read()
    for each in chosen:
        assert store.get(each) == b"0"
    assert (bytes_read() - before) / _READS < 20_000
    engine.close()
