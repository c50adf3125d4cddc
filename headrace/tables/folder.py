"""The folder of a worker's stores: which are there, and how one is removed or moved aside."""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from headrace.errors import HeadraceError, StoreCorrupt, StoreInUse

logger = logging.getLogger(__name__)

QUARANTINED_MAX = 2
"""Of one store's quarantined folders only the newest are kept: a failing disk must not fill itself."""
_QUARANTINED = ".quarantined-"
_DROPPED = ".dropped-"

_DISK_REFUSES = {
    "No space left on device": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Too many open files": errno.EMFILE,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
}


class StoreFolder:
    """The stores of one worker, each in `<root>/<group>-<partition>/`.

    Raises: OSError when the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root

    def path(self, group: str, partition: int) -> Path:
        """Where the files of a store are, or will be."""
        return self._root / f"{group}-{partition}"

    def held(self, group: str) -> Mapping[int, int]:
        """Partitions of the group that have a store here, and when each was last written, in ms.

        The time is a hint, by the clock of this machine; 0 where it is not known.
        """
        found: dict[int, int] = {}
        for path in self._root.iterdir():
            name, _, number = path.name.rpartition("-")
            if name == group and number.isdecimal() and path.is_dir():
                found[int(number)] = _written_ms(path)
        return found

    def drop(self, path: Path) -> None:
        """Remove a store that is not open, with all it holds. Raises: StoreInUse."""
        dropped = path.with_name(_DROPPED + path.name)
        shutil.rmtree(dropped, ignore_errors=True)  # left by a crash inside an earlier drop
        if not path.exists():
            return
        with _locked(path):
            # Renamed first: a crash half-way through the removal never leaves half a store to be opened.
            path.rename(dropped)
            shutil.rmtree(dropped)

    def quarantine(self, path: Path, time_s: float) -> Path | None:
        """Move a store that is not open aside, for people to look at; where it is now. Raises: StoreInUse.

        Order: the store is gone from its place in one step, whatever happens to the older ones.
        """
        if not path.exists():
            return None
        stamp = datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = path.with_name(f"{path.name}{_QUARANTINED}{stamp}")
        with _locked(path):
            path.rename(aside)
        for old in self.quarantined(path)[:-QUARANTINED_MAX]:
            shutil.rmtree(old, ignore_errors=True)
            logger.info("Removed the older quarantined store %s", old)
        return aside

    def quarantined(self, path: Path) -> list[Path]:
        """The folders that were moved aside from here, oldest first."""
        return sorted(path.parent.glob(f"{path.name}{_QUARANTINED}*"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock that RocksDB takes on a store. Raises: StoreInUse."""
    with (path / "LOCK").open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as refusal:
            raise StoreInUse(f"another process holds the store in {path}") from refusal
        yield


def refuse_headless(path: Path) -> None:
    """Refuse rows without CURRENT, which RocksDB takes for a new store. Raises: StoreCorrupt."""
    if not path.is_dir() or (path / "CURRENT").exists():
        return
    if any(child.suffix in (".sst", ".log") for child in path.iterdir()):
        raise StoreCorrupt(f"the store in {path} has rows but no CURRENT file")


def _written_ms(path: Path) -> int:
    """When a store was last written: every write goes into its write-ahead log."""
    try:
        with os.scandir(path) as children:
            times = [child.stat().st_mtime for child in children if child.name.endswith(".log")]
    except FileNotFoundError:
        # RocksDB removes a log once its rows are in a table.
        return 0
    return int(max(times, default=0.0) * 1000)


def refused(refusal: Exception, path: Path) -> HeadraceError | OSError:
    """What a refused open, read or write means; RocksDB tells it in words alone."""
    if isinstance(refusal, (HeadraceError, OSError)):
        return refusal
    text = str(refusal)
    if "lock hold by current process" in text or "While lock file" in text:
        return StoreInUse(f"the store in {path} is held elsewhere: {text}")
    for words, number in _DISK_REFUSES.items():
        if words in text:
            return OSError(number, text, str(path))
    return StoreCorrupt(f"the store in {path} cannot be trusted: {text}")
