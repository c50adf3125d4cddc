"""What a worker makes of requests that say they come from another worker of its app."""

from starlette.types import Scope, Send

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.http.peers.proof import PROOF, Proofs, name_of, parse_hop
from headrace.http.problems import NOT_FOUND, Problem
from headrace.http.source import ReadSource

GREETING_PATH = b"/.headrace/peer"
"""Where a worker asks another one whether it is who it is announced as."""
RESERVED = "/.headrace"
"""Nothing of the app is served below this path."""
CERTIFIED = "headrace.certified"
"""In the state of an ASGI scope: the connection's client has shown a certificate of a worker."""

_UNPROVEN = Problem(403, "This says that it comes from a worker of this app and does not prove it.",
                    error="PeerUnproven")  # fmt: skip
_MISDIRECTED = Problem(421, "This is meant for another worker.", error="NotOwner")


class Gate:
    """Lets requests of other workers in.

    A request that carries Headrace-Hop is never forwarded again. Where workers have something to
    prove themselves with, one that does not prove itself is refused.
    """

    def __init__(self, source: ReadSource, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._source = source
        self._clock = clock
        self._proofs = Proofs(source.settings.peer_secret)
        self._needs_certificate = bool(source.settings.peer_ca_file) and not self._proofs.are_made

    def refusal(self, value: bytes, scope: Scope) -> Problem | None:
        """Why a request with this Headrace-Hop header is not answered; None when it is."""
        hop = parse_hop(value)
        if self._proofs.are_made:
            now_ms = int(self._clock.time() * 1000)
            if hop is None or not self._proofs.is_of_peer(hop, now_ms, scope["method"], target_of(scope)):
                return _UNPROVEN
        elif self._needs_certificate and not scope.get("state", {}).get(CERTIFIED):
            return _UNPROVEN
        if hop is not None and hop.to != name_of(self._source.app_id, self._source.instance):
            return _MISDIRECTED
        return None

    async def answer(self, refusal: Problem | None, value: bytes | None, scope: Scope, send: Send) -> int:
        """Refuse, or say that this is the worker that was asked for; the result is the status."""
        if refusal is not None:
            return await refusal.send(send)
        hop = parse_hop(value) if value is not None else None
        if hop is None or scope["method"] != "GET":
            return await NOT_FOUND.send(send)
        address = self._source.reached_at.encode()
        proof = self._proofs.identity(hop, "GET", target_of(scope), address)
        headers = [(PROOF, proof), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return 204


def target_of(scope: Scope) -> bytes:
    """Path and query as they came."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
