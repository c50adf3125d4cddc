"""A thread with a connection of its own, so that SQLite never runs on the event loop."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from headrace.log.embedded.connection import connect, translated

_WAY_S = 0.00005

P = ParamSpec("P")
T = TypeVar("T")


def give_way() -> None:
    """Let the event loop run before the next batch of a long piece of work.

    SQLite gives the interpreter free while it works, but often for less time than the loop's thread
    takes to wake up; without a pause the loop would wait for the interpreter's own 5 ms.
    """
    time.sleep(_WAY_S)


class Lane:
    """Work on one connection, one piece after the other, in the order it was asked for.

    Cancel: work that has begun goes on to its end; work still in line is dropped.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"headrace-log-{name}")
        self._db: sqlite3.Connection | None = None

    async def run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `work` makes of the connection and the arguments. Raises: LogError for SQLite's errors."""

        def piece() -> T:
            try:
                return work(self._connection(), *args, **kwargs)
            except sqlite3.Error as error:
                raise translated(error, self._path) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, piece)

    async def close(self) -> None:
        """Finish what has begun and close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = connect(self._path)
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
