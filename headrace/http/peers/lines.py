"""The lines to the other workers: who may be called, at which place, and that it is who it should be."""

import asyncio
import secrets
import ssl
from typing import NamedTuple

from headrace.clock import Clock
from headrace.errors import PeerUnproven, PeerUnreachable
from headrace.flow.members import Peer
from headrace.http.peers.connection import Connection, Dial, dial_with
from headrace.http.peers.gate import GREETING_PATH
from headrace.http.peers.place import parse_place
from headrace.http.peers.pool import Pool
from headrace.http.peers.proof import HOP, PROOF, Proofs, name_of
from headrace.http.peers.request import Request
from headrace.http.source import ReadSource
from headrace.http.tls import peer_context

_GREETING_BYTES_MAX = 4096


class _Line(NamedTuple):
    """The connections to one worker: those that wait there never stand in the way of those that do not."""

    address: str
    prompt: Pool
    patient: Pool

    @property
    def is_used(self) -> bool:
        return self.prompt.is_used or self.patient.is_used

    def close(self) -> None:
        self.prompt.close()
        self.patient.close()


class Lines:
    """Kept connections to every worker that was asked for something.

    Whoever is reached at an announced address has first to say that it is the member that announced
    it, and to prove that where there is a secret: until then it gets to see a random number.
    """

    def __init__(self, source: ReadSource, clock: Clock, dial: Dial | None = None) -> None:
        settings = source.settings
        self._source = source
        self._settings = settings
        self._clock = clock
        self._proofs = Proofs(settings.peer_secret)
        self._dial = dial or dial_with(peer_context(settings), settings.peer_tls_name)
        self._lines: dict[str, _Line] = {}

    @property
    def are_proven(self) -> bool:
        """Whether whoever is reached has proved who it is."""
        return self._proofs.are_made or bool(self._settings.peer_ca_file)

    def close(self) -> None:
        """Let go of every connection that nobody uses."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def raw(self, peer: Peer, request: Request) -> bytes:
        """A request to this worker as it goes over the wire. Raises: Unsendable."""
        return request.raw(peer.address or "", self._hop(peer.instance, request))

    def pool(self, peer: Peer, *, may_wait: bool = False) -> Pool:
        """The connections to this worker. Raises: PeerUnreachable, PeerUnproven."""
        line = self._lines.get(peer.instance)
        if line is None or line.address != peer.address:
            line = self._new_line(peer)
        return line.patient if may_wait else line.prompt

    def _new_line(self, peer: Peer) -> _Line:
        instance, address = peer.instance, peer.address
        if self._settings.tokens and not self.are_proven:
            raise PeerUnproven(f"the tokens of clients are not shown to {instance}")
        if address is None:
            raise PeerUnreachable(f"the address of {instance} is not known yet")
        if parse_place(address) is None:
            raise PeerUnreachable(f"{instance} announces {address[:80]!r}, which is no address")
        # Somebody is new or has moved, so somebody else may have left. Who has not is connected again.
        for name in [name for name, line in self._lines.items() if name == instance or not line.is_used]:
            self._lines.pop(name).close()

        def pool() -> Pool:
            connections_max = self._settings.peer_connections_max
            return Pool(lambda: self._open(instance, address), connections_max=connections_max)

        line = self._lines[instance] = _Line(address, pool(), pool())
        return line

    async def _open(self, instance: str, address: str) -> Connection:
        """A connection to whoever has said that it is this worker. Raises: PeerError, OSError."""
        place = parse_place(address)
        assert place is not None
        async with asyncio.timeout(self._settings.peer_connect_timeout_s):
            try:
                connection = await self._dial(place)
            except ssl.SSLCertVerificationError as error:
                raise PeerUnproven(
                    f"the certificate at {address} is not that of a worker: {error}"
                ) from error
            try:
                await self._greet(connection, instance, address)
            except BaseException:
                connection.close()
                raise
        return connection

    async def _greet(self, connection: Connection, instance: str, address: str) -> None:
        greeting = Request("GET", GREETING_PATH + b"?once=" + secrets.token_hex(16).encode())
        raw = greeting.raw(address, self._hop(instance, greeting))
        answer = await connection.ask(raw, is_head=False, body_bytes_max=_GREETING_BYTES_MAX)
        if answer.status == 403:
            raise PeerUnproven(
                f"{instance} at {address} does not take this worker's proof",
                hint="Compare HEADRACE_PEER_SECRET at both, and their clocks.",
            )
        proof = answer.first(PROOF)
        if answer.status != 204 or proof is None:
            raise PeerUnreachable(f"who answers at {address} is not {instance}")
        to = name_of(self._source.app_id, instance)
        if not self._proofs.is_identity(proof, to, greeting.target, address.encode()):
            raise PeerUnproven(f"who answers at {address} does not prove to be {instance}")

    def _hop(self, instance: str, request: Request) -> tuple[bytes, bytes]:
        to, now_ms = name_of(self._source.app_id, instance), int(self._clock.time() * 1000)
        return HOP, self._proofs.hop(to, now_ms, request.method, request.target)
