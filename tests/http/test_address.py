"""The listening socket."""

import socket

import pytest

from headrace.errors import SettingsError
from headrace.http.address import advertised_address, listening_socket
from headrace.settings import Settings


async def test_small_answers_are_sent_at_once_because_the_protocol_is_named() -> None:
    listener = await listening_socket(Settings(http="127.0.0.1:0"))
    with listener:
        # asyncio and uvloop set TCP_NODELAY on accepted sockets under this condition only.
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("advertise", "bound", "reached"),
    [
        ("", ("127.0.0.1", 6066), "127.0.0.1:6066"),
        ("", ("::1", 6066), "[::1]:6066"),
        ("", ("0.0.0.0", 6066), f"{socket.gethostname()}:6066"),
        ("", ("::", 6066), f"{socket.gethostname()}:6066"),
        ("shop-0.shop:80", ("0.0.0.0", 6066), "shop-0.shop:80"),
    ],
)
def test_peers_are_told_an_address_that_they_can_reach(
    advertise: str, bound: tuple[str, int], reached: str
) -> None:
    assert advertised_address(Settings(advertise=advertise), bound) == reached


def test_an_advertised_address_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match="advertise is 'shop', not host:port"):
        advertised_address(Settings(advertise="shop"), ("127.0.0.1", 6066))
