"""Stores on disk: one RocksDB per task, one cache and one write budget for all of them."""

import errno
import fcntl
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from headrace.errors import HeadraceError, NotOwner, StoreCorrupt, StoreInUse
from headrace.tables.store import Row, Snapshot, Store

logger = logging.getLogger(__name__)

_MARK = b"\0mark"
_FIRST_ROW = b"\x01"
"""No row sorts before this: keys that begin with a zero byte are the store's own."""

_DROPPED = ".dropped-"
_READ_ONLY_ATTEMPTS = 5
_SCAN_CHUNK_ROWS = 256
_MEMTABLE_BYTES_MIN = 1 << 20
_MEMTABLE_BYTES_MAX = 16 << 20

_DISK_REFUSES = {
    "No space left on device": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Too many open files": errno.EMFILE,
    "Disk quota exceeded": errno.EDQUOT,
}


class RocksEngine:
    """The stores of one worker, each in `<folder>/<group>-<partition>/`.

    Raises: OSError when the folder cannot be made.
    """

    is_in_memory = False

    def __init__(self, folder: Path, *, cache_bytes: int, write_buffer_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._cache = Cache(cache_bytes)
        # A stalled write would hold the event loop, so over budget RocksDB flushes instead of waiting.
        self._write_buffers = WriteBufferManager(write_buffer_bytes, False)
        self._memtable_bytes = min(max(write_buffer_bytes // 8, _MEMTABLE_BYTES_MIN), _MEMTABLE_BYTES_MAX)
        self._open: dict[Path, RocksStore] = {}

    def open(self, group: str, partition: int) -> Store:
        """The store of one task, created if need be. Raises: StoreInUse, StoreCorrupt, OSError."""
        path = self._path(group, partition)
        _refuse_headless(path)
        try:
            handle = Rdict(str(path), self._options())
        except Exception as refusal:
            raise _named(refusal, path) from refusal
        store = RocksStore(handle, path, on_close=partial(self._open.pop, path, None))
        self._open[path] = store
        return store

    def open_read_only(self, group: str, partition: int) -> Store | None:
        """The same beside a running worker, as of its last write; None when there is none."""
        path = self._path(group, partition)
        for attempt in range(1, _READ_ONLY_ATTEMPTS + 1):
            if not (path / "CURRENT").exists():
                return None
            try:
                handle = Rdict(str(path), self._options(), access_type=AccessType.read_only(False))
                return RocksStore(handle, path)
            except Exception as refusal:
                # The worker may have compacted away a file between our listing it and opening it.
                if attempt == _READ_ONLY_ATTEMPTS:
                    raise _named(refusal, path) from refusal
        raise AssertionError("the last attempt returns or raises")

    def held(self, group: str) -> frozenset[int]:
        """Partitions of the group that have a store here."""
        names = (path.name.rpartition("-") for path in self._folder.iterdir() if path.is_dir())
        return frozenset(int(number) for name, _, number in names if name == group and number.isdecimal())

    def drop(self, group: str, partition: int) -> None:
        """Remove a store that is not open, with all it holds. Raises: StoreInUse."""
        path = self._path(group, partition)
        if path in self._open:
            raise StoreInUse(f"the store in {path} is open in this process")
        dropped = path.with_name(_DROPPED + path.name)
        shutil.rmtree(dropped, ignore_errors=True)  # left by a crash inside an earlier drop
        if not path.exists():
            return
        with (path / "LOCK").open("a") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as refusal:
                raise StoreInUse(f"another process holds the store in {path}") from refusal
            # Renamed first: a crash half-way through the removal never leaves half a store to be opened.
            path.rename(dropped)
            shutil.rmtree(dropped)

    def close(self) -> None:
        """Close the stores that are still open and let go of what they share."""
        for store in tuple(self._open.values()):
            store.close()

    def _path(self, group: str, partition: int) -> Path:
        return self._folder / f"{group}-{partition}"

    def _options(self) -> Options:
        """How a store is laid out; a worker has many, on a machine that also does other things.

        Durability: no write is synced to the disk. The changelog is the authority: a store that lost
        its newest batches stands at an older mark and catches up from there. What must hold is only
        that rows and mark are lost together and newest first, and it does: they are one batch in one
        column family, the write-ahead log is replayed up to its first damaged record and no further
        (RocksDB's default), and memtables are flushed in order.

        The write-ahead log stays on. It costs about 5 %: batches of 1,000 rows of 100 bytes went in at
        486,000 rows/s with it and 511,000 without (medians of five runs in turn, ranges overlapping).
        With it a killed process loses nothing and restarts without reading much of its changelog, and
        a reader beside the worker sees every batch instead of those up to the last flush.
        """
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_format_version(5)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_manager(self._write_buffers)
        options.set_write_buffer_size(self._memtable_bytes)
        options.set_target_file_size_base(self._memtable_bytes)
        options.set_max_bytes_for_level_base(4 * self._memtable_bytes)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_background_jobs(2)
        # RocksDB slows writers down by sleeping inside `write`, on our loop: late, therefore.
        options.set_max_write_buffer_number(4)
        options.set_level_zero_slowdown_writes_trigger(48)
        options.set_level_zero_stop_writes_trigger(96)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options


class RocksStore:
    """One open RocksDB in raw mode: keys and rows are the bytes they are, in byte order."""

    is_in_memory = False

    def __init__(self, handle: Any, path: Path, on_close: Callable[[], object] | None = None) -> None:
        self._handle: Any = handle
        self._path = path
        self._on_close = on_close
        self._reading = _verified()
        self._snapshots: set[RocksSnapshot] = set()
        try:
            self._mark: bytes | None = self.get(_MARK)
        except HeadraceError:
            self.close()
            raise

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt, NotOwner once closed."""
        handle = self._alive()
        try:
            row: bytes | None = handle.get(key, None, self._reading)
        except Exception as refusal:
            raise _unreadable(refusal, self._path) from refusal
        return row

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        """Apply rows, and replace the mark if one is given, all in one atomic batch.

        Raises: StoreCorrupt; OSError when the disk refuses; NotOwner once closed.
        """
        batch = WriteBatch(raw_mode=True)
        for key, row in rows:
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        if mark is not None:
            batch.put(_MARK, mark)
        handle = self._alive()
        try:
            handle.write(batch)
        except Exception as refusal:
            raise _named(refusal, self._path) from refusal
        if mark is not None:
            self._mark = mark

    @property
    def mark(self) -> bytes | None:
        """The mark of the last write that carried one; None in a new store."""
        return self._mark

    def snapshot(self) -> Snapshot:
        """The rows as of now; it ends with the store, later reads of it raise NotOwner."""
        snapshot = RocksSnapshot(self._alive(), self._path, on_close=self._snapshots.discard)
        self._snapshots.add(snapshot)
        return snapshot

    def rows_estimate(self) -> int:
        """About how many rows there are; one that was overwritten counts again until it is compacted."""
        keys = int(self._alive().property_int_value("rocksdb.estimate-num-keys") or 0)
        return max(keys - (self._mark is not None), 0)

    def size_bytes(self) -> int:
        """About how much the rows take, on disk and in write buffers."""
        handle = self._alive()
        names = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(int(handle.property_int_value(name) or 0) for name in names)

    def close(self) -> None:
        """Flush and let go of every file, snapshots included; a second call does nothing."""
        if self._handle is None:
            return
        # Whoever still scans would keep the files locked, and a task that re-opens must not wait for it.
        for snapshot in tuple(self._snapshots):
            snapshot.close()
        handle, self._handle = self._handle, None
        try:
            handle.close()
        except Exception:
            # Nothing is lost with it: the write-ahead log has what could not be flushed.
            logger.exception("the store in %s closed without its last flush", self._path)
        finally:
            del handle
            if self._on_close is not None:
                self._on_close()

    def _alive(self) -> Any:
        if self._handle is None:
            raise NotOwner(f"the store in {self._path} is closed")
        return self._handle


class RocksSnapshot:
    """The rows of a RocksDB at one instant; its lock makes `close` safe while another thread scans.

    It is one iterator, which RocksDB freezes when it is made. (The iterators that rocksdict 0.3.29
    makes of its own snapshots are not frozen: they show what is written after the snapshot.)
    """

    def __init__(self, handle: Any, path: Path, on_close: "Callable[[RocksSnapshot], None]") -> None:
        self._rows: Any = handle.iter(_verified())
        self._path = path
        self._on_close = on_close
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt, NotOwner once closed."""
        found = self._take(key, key + b"\0", rows_max=1)
        return found[0][1] if found else None

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order (end None: to the last).

        Raises: StoreCorrupt where the files cannot be read, NotOwner once closed.
        """
        start = max(start, _FIRST_ROW)
        while chunk := self._take(start, end, rows_max=_SCAN_CHUNK_ROWS):
            yield from chunk
            start = chunk[-1][0] + b"\0"

    def close(self) -> None:
        """Let go of it; scans under way end with NotOwner."""
        with self._lock:
            self._rows = None
        self._on_close(self)

    def _take(self, start: bytes, end: bytes | None, *, rows_max: int) -> list[tuple[bytes, bytes]]:
        """The first rows of a range; none only at its true end."""
        taken: list[tuple[bytes, bytes]] = []
        with self._lock:
            rows = self._rows
            if rows is None:
                raise NotOwner(f"the snapshot of {self._path} is closed")
            try:
                rows.seek(start)
                while len(taken) < rows_max and rows.valid():
                    key = rows.key()
                    if end is not None and key >= end:
                        return taken
                    taken.append((key, rows.value()))
                    rows.next()
                # An iterator that meets a broken block becomes invalid just as at the end of the rows.
                rows.status()
            except Exception as refusal:
                raise _unreadable(refusal, self._path) from refusal
        return taken


def _verified() -> ReadOptions:
    reading = ReadOptions()
    reading.set_verify_checksums(True)
    return reading


def _refuse_headless(path: Path) -> None:
    """RocksDB takes files without CURRENT for a new store, and replays a stray write-ahead log into it."""
    if not path.is_dir() or (path / "CURRENT").exists():
        return
    if any(child.suffix in (".sst", ".log") for child in path.iterdir()):
        raise StoreCorrupt(f"the store in {path} has rows but no CURRENT file")


def _unreadable(refusal: Exception, path: Path) -> HeadraceError:
    """What a failed read means: whatever the reason, these files do not give the rows they should."""
    if isinstance(refusal, DbClosedError):
        return NotOwner(f"the store in {path} is closed")
    return StoreCorrupt(f"the store in {path} cannot be read: {refusal}")


def _named(refusal: Exception, path: Path) -> HeadraceError | OSError:
    """What a refused open or write means; rocksdict tells by the text of a bare Exception."""
    text = str(refusal)
    if "lock hold by current process" in text or "While lock file" in text:
        return StoreInUse(f"the store in {path} is held elsewhere: {text}")
    for words, number in _DISK_REFUSES.items():
        if words in text:
            return OSError(number, text, str(path))
    return StoreCorrupt(f"the store in {path} was refused: {text}")
