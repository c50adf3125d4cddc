"""Stores on disk: one RocksDB per task, one cache and one write budget for all of them."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from headrace.errors import HeadraceError, NotOwner, StoreCorrupt, StoreInUse
from headrace.tables.damage import Damage
from headrace.tables.folder import StoreFolder, refuse_headless, refused
from headrace.tables.store import Row, Snapshot, Store

logger = logging.getLogger(__name__)

_MARK = b"\0mark"
_LINK = b"\0link"
_LINK_END = b"\0linl"
_FIRST_ROW = b"\x01"
"""No row sorts before this: keys that begin with a zero byte are the store's own."""

_READ_ONLY_ATTEMPTS = 5
_SCAN_CHUNK_ROWS = 256
_MEMTABLE_BYTES_MIN = 1 << 20
_MEMTABLE_BYTES_MAX = 16 << 20


class RocksEngine:
    """The stores of one worker, each in `<folder>/<group>-<partition>/`.

    Raises: OSError when the folder cannot be made.
    """

    is_in_memory = False

    def __init__(self, folder: Path, *, cache_bytes: int, write_buffer_bytes: int) -> None:
        self._folder = StoreFolder(folder)
        self._cache = Cache(cache_bytes)
        # A stalled write would hold the event loop, so over budget RocksDB flushes instead of waiting.
        self._write_buffers = WriteBufferManager(write_buffer_bytes, False)
        self._memtable_bytes = min(max(write_buffer_bytes // 8, _MEMTABLE_BYTES_MIN), _MEMTABLE_BYTES_MAX)
        self._open: dict[Path, RocksStore] = {}
        self._condemned: dict[Path, Damage] = {}
        """Stores that were found damaged while they were open; opening them again may well succeed."""

    def open(self, group: str, partition: int) -> Store:
        """The store of one task, created if need be. Raises: StoreInUse, StoreCorrupt, OSError."""
        path = self._folder.path(group, partition)
        if path in self._condemned:
            self._condemned[path].check()
        refuse_headless(path)
        try:
            handle = Rdict(str(path), self._options())
        except Exception as refusal:
            raise refused(refusal, path) from refusal
        store = RocksStore(handle, path, on_close=partial(self._closed, path))
        self._open[path] = store
        store.begin()
        return store

    def open_read_only(self, group: str, partition: int) -> Store | None:
        """The same beside a running worker, as of its last write; None when there is none."""
        path = self._folder.path(group, partition)
        for attempt in range(1, _READ_ONLY_ATTEMPTS + 1):
            if not (path / "CURRENT").exists():
                return None
            try:
                handle = Rdict(str(path), self._options(), access_type=AccessType.read_only(False))
                return RocksStore(handle, path)
            except Exception as refusal:
                # Between our reading the list of files and opening them the worker may have removed
                # one: a table by compaction, or by a flush a log, which leaves us a gap.
                if attempt == _READ_ONLY_ATTEMPTS:
                    raise refused(refusal, path) from refusal
        raise AssertionError("the last attempt returns or raises")

    def held(self, group: str) -> Mapping[int, int]:
        """Partitions of the group that have a store here, and when each was last written, in ms.

        The time is a hint, by the clock of this machine; 0 where it is not known.
        """
        return self._folder.held(group)

    def drop(self, group: str, partition: int) -> None:
        """Remove a store that is not open, with all it holds. Raises: StoreInUse."""
        self._folder.drop(self._closed_path(group, partition))

    def quarantine(self, group: str, partition: int, time_s: float) -> Path | None:
        """Move a store that is not open aside; where its files are now. Raises: StoreInUse."""
        path = self._closed_path(group, partition)
        aside = self._folder.quarantine(path, time_s)
        self._condemned.pop(path, None)
        return aside

    def close(self) -> None:
        """Close the stores that are still open and let go of what they share."""
        for store in tuple(self._open.values()):
            store.close()

    def _closed_path(self, group: str, partition: int) -> Path:
        path = self._folder.path(group, partition)
        if path in self._open:
            raise StoreInUse(f"the store in {path} is open in this process")
        return path

    def _closed(self, path: Path) -> None:
        store = self._open.pop(path, None)
        if store is not None and store.damage.what:
            self._condemned[path] = store.damage

    def _options(self) -> Options:
        """How a store is laid out; a worker has many, on a machine that also does other things.

        Durability: no write is synced to the disk. The changelog is the authority: a store that lost
        its newest batches stands at an older mark and catches up from there. What must hold is only
        that rows and mark are lost together and newest first, and it does: they are one batch in one
        column family, the write-ahead log is replayed up to its first damaged record and no further
        (point in time), memtables are flushed in order, and links tell of a log that is missing.
        "Absolute consistency" would refuse every store whose machine went down in the middle of a
        write; "any corrupted records" would skip batches in the middle.

        The write-ahead log stays on. It costs about 5 %: batches of 1,000 rows of 100 bytes went in at
        486,000 rows/s with it and 511,000 without (medians of five runs in turn, ranges overlapping).
        With it a killed process loses nothing and restarts without reading much of its changelog, and
        a reader beside the worker sees every batch instead of those up to the last flush.
        """
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_format_version(5)
        # In parts: a file of rows that compress well has millions of keys, and its filter as one block is
        # larger than a shard of the cache, so that every single read would fetch and check all of it.
        blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
        blocks.set_partition_filters(True)
        blocks.set_pin_top_level_index_and_filter(True)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
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
    """One open RocksDB in raw mode: keys and rows are the bytes they are, in byte order.

    Every batch adds a link and removes the one before. RocksDB replays a write-ahead log although an
    older one is missing, or was cut between two of its records; the link in front of the gap then was
    never removed, and a store with more than one is missing rows in its middle.
    """

    is_in_memory = False

    def __init__(self, handle: Any, path: Path, on_close: Callable[[], object] | None = None) -> None:
        self._handle: Any = handle
        self._path = path
        self._on_close = on_close
        self.damage = Damage()
        self._reading = _verified()
        self._snapshots: set[RocksSnapshot] = set()
        try:
            self._mark: bytes | None = self.get(_MARK)
            self._link = self._last_link()
        except (HeadraceError, OSError):
            self.close()
            raise

    def _last_link(self) -> int | None:
        """The number of the last batch; None in a new store. Raises: StoreCorrupt when one is missing."""
        snapshot = RocksSnapshot(self._alive(), self._failed, on_close=lambda _: None)
        try:
            links = [
                int.from_bytes(key[len(_LINK) :]) for key, _ in snapshot.take(_LINK, _LINK_END, rows_max=2)
            ]
            is_empty = self._mark is None and not snapshot.take(b"", None, rows_max=1)
        finally:
            snapshot.close()
        if len(links) == 1 or is_empty:
            return links[0] if links else None
        missing = f"the batches between {links[0]} and {links[1]} are" if links else "its first batch is"
        damage = StoreCorrupt(f"the store in {self._path} has a gap: {missing} missing")
        self.damage.note(damage)
        raise damage

    def begin(self) -> None:
        """Make a new store's first link durable: later ones tell by it whether a batch is missing.

        Raises: as `write`.
        """
        if self._link is not None:
            return
        try:
            self.write(())
            self._alive().flush(True)
        except Exception as refusal:
            error = self._failed(refusal)
            self.close()
            raise error from refusal

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt, NotOwner once closed."""
        try:
            row: bytes | None = self._alive().get(key, None, self._reading)
        except Exception as refusal:
            raise self._failed(refusal) from refusal
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
        link = 0 if self._link is None else self._link + 1
        batch.put(_link_key(link), b"")
        if self._link is not None:
            batch.delete(_link_key(self._link))
        try:
            self._alive().write(batch)
        except Exception as refusal:
            raise self._failed(refusal) from refusal
        self._link = link
        if mark is not None:
            self._mark = mark

    @property
    def mark(self) -> bytes | None:
        """The mark of the last write that carried one; None in a new store."""
        return self._mark

    def snapshot(self) -> Snapshot:
        """The rows as of now; it ends with the store, later reads of it raise NotOwner."""
        snapshot = RocksSnapshot(self._alive(), self._failed, on_close=self._snapshots.discard)
        self._snapshots.add(snapshot)
        return snapshot

    def rows_estimate(self) -> int:
        """About how many rows there are; one that was overwritten counts again until it is compacted."""
        keys = int(self._alive().property_int_value("rocksdb.estimate-num-keys") or 0)
        return max(keys - (self._mark is not None) - (self._link is not None), 0)

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

    def _failed(self, refusal: Exception) -> HeadraceError | OSError:
        """What a refused read or write means, noted when it is damage; called from any thread."""
        if isinstance(refusal, DbClosedError):
            return NotOwner(f"the store in {self._path} is closed")
        error = refused(refusal, self._path)
        if isinstance(error, StoreCorrupt):
            self.damage.note(error)
        return error


class RocksSnapshot:
    """The rows of a RocksDB at one instant; its lock makes `close` safe while another thread scans.

    It is one iterator, which RocksDB freezes when it is made. (The iterators that rocksdict 0.3.29
    makes of its own snapshots are not frozen: they show what is written after the snapshot.)
    """

    def __init__(
        self,
        handle: Any,
        failed: Callable[[Exception], HeadraceError | OSError],
        on_close: "Callable[[RocksSnapshot], object]",
    ) -> None:
        self._rows: Any = handle.iter(_verified())
        self._failed = failed
        self._on_close = on_close
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key; None when there is none. Raises: StoreCorrupt, NotOwner once closed."""
        found = self.take(key, key + b"\0", rows_max=1)
        return found[0][1] if found else None

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order (end None: to the last).

        Raises: StoreCorrupt where the files cannot be read, NotOwner once closed.
        """
        start = max(start, _FIRST_ROW)
        while chunk := self.take(start, end, rows_max=_SCAN_CHUNK_ROWS):
            yield from chunk
            start = chunk[-1][0] + b"\0"

    def close(self) -> None:
        """Let go of it; scans under way end with NotOwner."""
        with self._lock:
            self._rows = None
        self._on_close(self)

    def take(self, start: bytes, end: bytes | None, *, rows_max: int) -> list[tuple[bytes, bytes]]:
        """The first rows of a range; none only at its true end. Raises: as `scan`."""
        taken: list[tuple[bytes, bytes]] = []
        with self._lock:
            # No name of its own for the iterator: the traceback of an error would keep it alive, and it the
            # lock on the files.
            if self._rows is None:
                raise NotOwner("the snapshot of the store is closed")
            try:
                self._rows.seek(start)
                while len(taken) < rows_max and self._rows.valid():
                    key = self._rows.key()
                    if end is not None and key >= end:
                        return taken
                    taken.append((key, self._rows.value()))
                    self._rows.next()
                # An iterator that meets a broken block becomes invalid just as at the end of the rows.
                self._rows.status()
            except Exception as refusal:
                raise self._failed(refusal) from refusal
        return taken


def _verified() -> ReadOptions:
    reading = ReadOptions()
    reading.set_verify_checksums(True)
    return reading


def _link_key(number: int) -> bytes:
    return _LINK + number.to_bytes(8)
