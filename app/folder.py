"""The folder that a run of the reference system has for itself: logs, tables, a database."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.service import ROOT


class FolderInUse(Exception):
    """Another run works in this folder."""


@contextmanager
def fresh_folder(name: str) -> Iterator[Path]:
    """An empty folder, held against other runs of the same name."""
    folder = ROOT / ".headrace" / name
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(f"another one is running in {folder}; stop it first") from error
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        yield folder
