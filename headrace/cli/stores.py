"""The stores that workers of an app have on this machine, opened beside them to read only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.settings import Settings
from headrace.tables.changelog import StoreMark, decode_mark
from headrace.tables.rocksdb import RocksEngine
from headrace.tables.store import Store

_CACHE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundStore:
    """One store, as it was when it was opened."""

    instance: str
    """The worker that it belongs to."""
    partition: int
    store: Store
    mark: StoreMark | None

    @property
    def offset_next(self) -> int:
        """How far it has its changelog."""
        return self.mark.changelog_offset_next if self.mark else 0


class LocalStores:
    """Stores by worker, group and partition; none where tables are kept in memory."""

    def __init__(self, settings: Settings, app: str) -> None:
        self.folder = Path(settings.data) / app
        has_files = settings.store == "rocksdb" and self.folder.is_dir()
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir()) if has_files else []
        self._engines = {
            folder.name: RocksEngine(folder, cache_bytes=_CACHE_BYTES, write_buffer_bytes=_CACHE_BYTES)
            for folder in folders
        }

    def partitions(self, group: str) -> Sequence[int]:
        """Partitions of the group that any worker has a store of."""
        return sorted({partition for engine in self._engines.values() for partition in engine.held(group)})

    @contextmanager
    def open(self, group: str, partition: int) -> Iterator[Sequence[FoundStore]]:
        """Every worker's store of a partition, the one that is furthest first. Raises: StoreCorrupt."""
        found: list[FoundStore] = []
        try:
            for instance, engine in self._engines.items():
                store = engine.open_read_only(group, partition)
                if store is not None:
                    found.append(FoundStore(instance, partition, store, None))
                    found[-1] = FoundStore(instance, partition, store, decode_mark(store.mark))
            yield sorted(found, key=lambda each: each.offset_next, reverse=True)
        finally:
            for each in found:
                each.store.close()

    def close(self) -> None:
        """Let go of what the stores shared."""
        for engine in self._engines.values():
            engine.close()
