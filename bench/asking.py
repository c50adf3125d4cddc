"""A client as lean as Python allows: requests over kept connections, and how long each took."""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_RECV_BYTES = 256 * 1024
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_OK = b"HTTP/1.1 200 "
_SILENCE_MAX_S = 10.0


class Answered(NamedTuple):
    """What a run of requests came to; times in milliseconds."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Lane:
    """One connection, with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        """When its request was to be sent, which is not later than it was."""
        self._received = b""

    def ask(self, request: bytes, due: float) -> None:
        """Send a request."""
        self.due = due
        self.socket.sendall(request)

    def has_answer(self) -> bool:
        """Take what has arrived; whether it is the whole answer. Raises: ValueError when it is not 200."""
        data = self.socket.recv(_RECV_BYTES)
        received = self._received + data if self._received else data
        head = received.find(_HEAD_END)
        at = received.find(_LENGTH, 0, head)
        if head < 0 or len(received) < head + 4 + int(received[at + 16 : received.index(b"\r", at)]):
            if not data:
                raise ValueError("the connection was closed")
            self._received = received
            return False
        self._received = b""
        if not received.startswith(_OK):
            raise ValueError(f"the answer is {received[:300]!r}")
        return True


def ask(
    port: int,
    requests: Iterator[bytes],
    *,
    lanes: int,
    seconds: float = float("inf"),
    rate: float | None = None,
    until: Callable[[], bool] | None = None,
) -> Answered:
    """Ask for so long, or until it is over: as fast as answers come, or so many requests per second.

    With a rate the time of a request begins when it is due, also where no connection is free for it.
    """
    free = deque(Lane(port) for _ in range(lanes))
    every = list(free)
    took: list[float] = []
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for lane in every:
            selector.register(lane.socket, selectors.EVENT_READ, lane)
        sent, checked = 0, began
        while (now := time.perf_counter()) - began < seconds:
            if until is not None and now - checked > 0.1:
                checked = now
                if until():
                    break
            while free and (rate is None or began + sent / rate <= now):
                free.popleft().ask(next(requests), now if rate is None else began + sent / rate)
                sent += 1
            wait_s = _SILENCE_MAX_S if rate is None or not free else max(0.0, began + sent / rate - now)
            ready = selector.select(wait_s)
            if not ready and wait_s == _SILENCE_MAX_S:
                raise ValueError(f"no answer within {_SILENCE_MAX_S:g} s")
            for key, _ in ready:
                if key.data.has_answer():
                    took.append(time.perf_counter() - key.data.due)
                    free.append(key.data)
    elapsed = time.perf_counter() - began
    for lane in every:
        lane.socket.close()
    return _answered(took, elapsed)


def _answered(took: Sequence[float], elapsed: float) -> Answered:
    ordered = sorted(took)
    p50, p99, longest = (
        ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99, 1)
    )
    return Answered(len(ordered) / elapsed, p50 * 1000, p99 * 1000, longest * 1000)
