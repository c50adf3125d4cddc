"""Which store a worker uses, chosen by configuration alone."""

from pathlib import Path

from headrace.settings import Settings
from headrace.tables.memory import MemoryEngine
from headrace.tables.rocksdb import RocksEngine
from headrace.tables.store import StoreEngine


def open_engine(settings: Settings, folder: Path) -> StoreEngine:
    """The engine that the settings name, with its files in this folder."""
    if settings.store == "memory":
        return MemoryEngine()
    return RocksEngine(
        folder,
        cache_bytes=settings.rocksdb_cache_bytes,
        write_buffer_bytes=settings.rocksdb_write_buffer_bytes,
    )


def store_folder(settings: Settings, app: str, instance: str) -> Path:
    """Where the stores of one worker are."""
    return Path(settings.data) / app / instance
