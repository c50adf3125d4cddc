"""What stands in the place of a socket: it keeps what is written to it, each write by itself."""

import asyncio


class Wire(asyncio.Transport):
    """A connection whose other side takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.has_ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.has_ended

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.has_ended = True

    abort = close
