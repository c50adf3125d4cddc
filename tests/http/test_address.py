"""The listening socket."""

import socket

from headrace.http.address import listening_socket
from headrace.settings import Settings


async def test_small_answers_are_sent_at_once_because_the_protocol_is_named() -> None:
    listener = await listening_socket(Settings(http="127.0.0.1:0"))
    with listener:
        # asyncio and uvloop set TCP_NODELAY on accepted sockets under this condition only.
        assert listener.proto == socket.IPPROTO_TCP
