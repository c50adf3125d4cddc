"""How readers learn that a partition has grown, in this process or in another."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from headrace.errors import LogError
from headrace.log.embedded.connection import connect, translated
from headrace.vitals import Kind, Vitals

POLL_S = 0.005


class Follower(Protocol):
    """Whoever wants to know the end of a place."""

    def grown(self, end: int) -> None:
        """The place ends here now, or a little later."""

    def gone(self) -> None:
        """The place was not there when the file was last looked at."""

    def failed(self, error: LogError) -> None:
        """Nobody watches the file any more."""


class EndWatch:
    """Tells followers of a place its new end.

    Commits of this process are told by its writer, at once. Those of other processes are found by
    polling: SQLite has no message between processes, and a file notification would fire for the
    read marks that every reader leaves in the shared memory file too. `PRAGMA data_version` is the
    cheapest question there is (it looks into shared memory, a few microseconds); one thread asks it
    for the whole log, and only while a reader has nothing left to read.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, vitals: Vitals) -> None:
        self._path = path
        self._loop = loop
        self._followers: dict[int, set[Follower]] = {}
        self._waiting = 0
        self._vitals = vitals
        self._vital = vitals.add(Kind.FETCH, "the watch of the log's file")
        self._is_wanted = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="headrace-log-watch", daemon=True)
        self._thread.start()

    def follow(self, place: int, follower: Follower) -> None:
        """Tell this follower of the place from now on."""
        self._followers.setdefault(place, set()).add(follower)

    def unfollow(self, place: int, follower: Follower) -> None:
        """Tell it no more."""
        followers = self._followers[place]
        followers.discard(follower)
        if not followers:
            del self._followers[place]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block lasts other processes are watched."""
        self._waiting += 1
        self._is_wanted.set()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and not self._is_closing.is_set():
                self._is_wanted.clear()

    def committed(self, ends: Mapping[int, int]) -> None:
        """Pass on what a thread of this process has committed."""
        self._loop.call_soon_threadsafe(self._tell, ends)

    async def close(self) -> None:
        """Stop watching."""
        self._vitals.remove(self._vital)
        self._is_closing.set()
        self._is_wanted.set()
        await asyncio.to_thread(self._thread.join)

    def _tell(self, ends: Mapping[int, int]) -> None:
        for place, followers in self._followers.items():
            end = ends.get(place)
            if end is not None:
                for follower in followers:
                    follower.grown(end)

    def _tell_all(self, ends: Mapping[int, int]) -> None:
        """Pass on the ends of all places there are, and that others are gone."""
        self._tell(ends)
        for place in self._followers.keys() - ends.keys():
            for follower in self._followers[place]:
                follower.gone()

    def _fail(self, error: LogError) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.failed(error)

    def _poll(self) -> None:
        try:
            with closing(connect(self._path)) as db:
                self._compare(db)
        except sqlite3.Error as error:
            self._loop.call_soon_threadsafe(self._fail, translated(error, self._path))

    def _compare(self, db: sqlite3.Connection) -> None:
        version = None
        while not self._is_closing.is_set():
            self._vital.rest()
            self._is_wanted.wait()
            self._vital.expect()
            (version_now,) = db.execute("PRAGMA data_version").fetchone()
            if version_now != version:
                # Ends are read after the version: what is committed in between shows at the next look.
                ends = dict(db.execute("SELECT place, end_offset FROM partitions").fetchall())
                version = version_now
                self._loop.call_soon_threadsafe(self._tell_all, ends)
            self._is_closing.wait(POLL_S)
