"""The folder of a worker's stores, as the group hears of it."""

import os
from pathlib import Path

from headrace.tables.rocksdb import RocksEngine

MiB = 1 << 20


def test_a_store_tells_when_it_was_last_written_while_it_is_open_and_afterwards(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, cache_bytes=MiB, write_buffer_bytes=32 * MiB)
    older, newer = engine.open("main", 0), engine.open("main", 1)
    for store in (older, newer):
        store.write([(b"a", b"1")], b"mark")
    for log in (tmp_path / "main-0").glob("*.log"):
        os.utime(log, (1_000.0, 1_000.5))
    assert engine.held("main")[0] == 1_000_500
    assert engine.held("main")[1] > 1_000_500
    newer.close()
    assert engine.held("main")[1] > 1_000_500
    older.write([(b"a", b"2")], b"mark")
    assert engine.held("main")[0] > 1_000_500
    older.close()
    engine.close()
