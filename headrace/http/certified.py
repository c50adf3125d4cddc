"""Connections whose client has shown a certificate of a worker, told to the application."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from headrace.http.joining import JoiningTransport
from headrace.http.peers.gate import CERTIFIED


def state_of(transport: asyncio.Transport, state: dict[str, Any]) -> dict[str, Any]:
    """The state of the requests of a connection: whether its client has shown a certificate.

    The handshake has held it to who signs the workers' certificates, and nobody else's.
    """
    tls = transport.get_extra_info("ssl_object")
    return state if tls is None or not tls.getpeercert() else {**state, CERTIFIED: True}


class CertifiedH11(H11Protocol):
    """h11's protocol, which bounds the size of a head by itself."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open."""
        super().connection_made(JoiningTransport(transport, self.loop))
        self.app_state = state_of(transport, self.app_state)
