"""h11's parser as uvicorn drives it, held to one reading of what a request says."""

import re
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headrace.http.bounded import BoundedConnection, Bounds

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LOOSE = re.compile(rb"(?<!\r)\n|\n[ \t]|\r(?=[^\n])")


class StrictConnection(h11.Connection):
    """h11's connection without folded lines and lone line ends, which another server may read otherwise."""

    def next_event(self) -> Any:
        """The next event. Raises: RemoteProtocolError."""
        if self.their_state is h11.IDLE:
            received = self.trailing_data[0].lstrip(b"\r\n")
            end = _END_OF_HEAD.search(received)
            if _LOOSE.search(received[: end.end() if end else None]):
                raise h11.RemoteProtocolError("the lines of this head do not end in one way")
        event = super().next_event()
        if isinstance(event, h11.Request) and event.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("this is another version of HTTP")
        return event


def bounded_h11(of_server: Bounds) -> type[H11Protocol]:
    """A protocol class for the connections of one server; h11 bounds the size of a head by itself."""

    class BoundedH11(BoundedConnection, H11Protocol):
        bounds, idle = of_server, {}

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.conn = StrictConnection(h11.SERVER, of_server.head_bytes_max)

    return BoundedH11
