"""Kept connections to one other worker: bounded in number, the last used first, each greeted once."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from headrace.http.peers.connection import Connection

IDLE_MAX_S = 15.0
"""After this long a connection is not used again: the other side may be about to close it."""

Open = Callable[[], Awaitable[Connection]]
"""Opens a connection that may be used: whoever answers there has proved to be the worker that is meant."""


class Pool:
    """The connections to one worker at one place."""

    def __init__(self, open_one: Open, *, connections_max: int) -> None:
        self._open_one = open_one
        self._connections_max = connections_max
        self._used = 0
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def is_used(self) -> bool:
        """Whether somebody has a connection, or waits for one."""
        return self._used > 0

    async def take(self, *, is_fresh: bool = False) -> Connection:
        """A connection, as soon as one may be used; a new one if it is to be fresh. To be given back.

        Cancel: nothing is taken. Raises: what opening one raises.
        """
        await self._take_turn()
        try:
            return (None if is_fresh else self._kept()) or await self._open_one()
        except BaseException:
            self._pass_turn()
            raise

    async def open_apart(self) -> Connection:
        """A new connection beyond the bound, to be closed and not given back. Raises: as `take`."""
        return await self._open_one()

    def give_back(self, connection: Connection) -> None:
        """Keep the connection for the next request, if it is open still."""
        if connection.is_open and not self._is_closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()
        self._pass_turn()

    def close(self) -> None:
        """Close what is idle; what is used is closed when it is given back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and time.monotonic() - connection.idle_since < IDLE_MAX_S:
                return connection
            connection.close()
        return None

    async def _take_turn(self) -> None:
        if self._used < self._connections_max:
            self._used += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._pass_turn()
            raise

    def _pass_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._used -= 1
