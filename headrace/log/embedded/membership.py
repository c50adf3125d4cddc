"""Membership on the embedded log: one worker per app, which owns everything."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Self
from urllib.parse import quote

from headrace.errors import AlreadyRunning, LogError, Unavailable
from headrace.log.port import Assignment, Member

_GENERATION = 1


class EmbeddedMembership:
    """The only worker of an app, proven by a lock on a file beside the log.

    The operating system releases the lock when the process ends, however it ends.
    """

    def __init__(self, lock: int, member: Member) -> None:
        self._lock = lock
        self._assignment = Assignment(
            _GENERATION,
            {name: frozenset(range(count)) for name, count in member.partitions.items()},
            {name: dict.fromkeys(range(count), member.instance) for name, count in member.partitions.items()},
        )
        self._is_closed = asyncio.Event()

    @classmethod
    def take(cls, path: Path, member: Member) -> Self:
        """Become the worker of this app. Raises: AlreadyRunning, Unavailable."""
        lock_path = _lock_path(path, member.app)
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Unavailable(f"the lock file {lock_path} cannot be opened: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 100).decode(errors="replace")
            os.close(lock)
            raise AlreadyRunning(
                f"a worker of {member.app!r} already runs on {path} (process {holder})"
            ) from error
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        return cls(lock, member)

    async def next(self, after: int) -> Assignment:
        """Everything, once; after that nothing ever changes. Raises: LogError when it is closed."""
        if after >= _GENERATION:
            await self._is_closed.wait()
        return self._current()

    async def confirm(self) -> Assignment:
        """The same assignment: the lock is still held."""
        return self._current()

    async def close(self) -> None:
        """Let another worker run."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            os.close(self._lock)

    def _current(self) -> Assignment:
        if self._is_closed.is_set():
            raise LogError("this membership is closed", hint="Join again.")
        return self._assignment


def running_workers(path: Path, app: str) -> list[str]:
    """The process that runs the app on this log, if one does. Raises: Unavailable."""
    lock_path = _lock_path(path, app)
    try:
        lock = os.open(lock_path, os.O_RDONLY)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unavailable(f"the lock file {lock_path} cannot be opened: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return [f"process {os.read(lock, 100).decode(errors='replace')}"]
    finally:
        os.close(lock)
    return []


def _lock_path(path: Path, app: str) -> Path:
    return path.with_name(f"{path.name}.{quote(app, safe='')}.lock")
