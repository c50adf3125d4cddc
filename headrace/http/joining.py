"""An answer's head and the first of its body as one write: uvicorn makes two, each a system call."""

import asyncio
from typing import Any

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"


class JoiningTransport(asyncio.Transport):
    """A connection on which the head of an answer waits for its body, for one turn of the loop at most.

    Everything keeps its order. An interim answer (100 Continue) is written at once.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._flushing: asyncio.Handle | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, or keep a head that has no body yet until the next turn."""
        if not data:
            return
        if self._flushing is not None:
            data = self._taken() + bytes(data)
        elif data[: len(_HEAD)] == _HEAD and data[: len(_INTERIM)] != _INTERIM:
            self._head = bytes(data)
            self._flushing = self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Write an answer that is there with head and body."""
        self._transport.write(self._taken() + data)

    def _taken(self) -> bytes:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        head, self._head = self._head, b""
        return head

    def _flush(self) -> None:
        if head := self._taken():
            self._transport.write(head)

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is not written is lost."""
        self._taken()
        self._transport.abort()

    # --- as they are

    def is_closing(self) -> bool:
        """Whether it closes or is closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Take nothing more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take again what comes."""
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """How many bytes are not on their way yet."""
        return len(self._head) + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the protocol is told to stop writing, and to go on."""
        self._transport.set_write_buffer_limits(high, low)
