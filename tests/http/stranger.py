"""Who answers at a member's address instead of a worker: notes what it gets, and says what it likes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

GREETED = b"HTTP/1.1 204 No Content\r\nheadrace-proof: -\r\n\r\n"


class Stranger:
    """A raw server; `says` is what it answers, one after the other, the last one for ever."""

    def __init__(self, says: Sequence[bytes]) -> None:
        self.says = list(says)
        self.heads: list[bytes] = []
        """Every request head it got, line ends and all."""
        self.bodies: list[bytes] = []
        self.address = ""
        self.connections = 0

    @property
    def requests(self) -> list[bytes]:
        """The heads of what is no greeting."""
        return [head for head in self.heads if not head.startswith(b"GET /.headrace/")]

    def headers(self) -> dict[str, str]:
        """The headers of its last request."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:-2]
        pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        assert len({name for name, _ in pairs}) == len(pairs), "a header came twice"
        return dict(pairs)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next((ln for ln in head.split(b"\r\n") if ln.startswith(b"content-length: ")), b"")
                self.bodies.append(await reader.readexactly(int(length[16:] or 0)))
                said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
                if not said:
                    break
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def stranger(*says: bytes) -> AsyncIterator[Stranger]:
    """A stranger who listens."""
    it = Stranger(says or [GREETED])
    server = await asyncio.start_server(it.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    it.address = f"{host}:{port}"
    try:
        yield it
    finally:
        server.close()


def plain(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
