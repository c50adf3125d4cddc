"""Point reads of rows that another worker has."""

from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from starlette.types import Scope, Send

from headrace.flow.members import Peer
from headrace.http.consistency import POSITION, Asked, carrying
from headrace.http.peers.figures import HopKind
from headrace.http.peers.headers import READING
from headrace.http.peers.hop import Hop
from headrace.http.peers.request import Request
from headrace.http.problems import NOT_OWNED, Problem
from headrace.http.reads import PointReads
from headrace.http.source import ReadSource, ServedTable


class RoutedReads:
    """`GET {path}/{key}` for the partitions of one table that are not here."""

    def __init__(self, source: ReadSource, hop: Hop, table: ServedTable, reads: PointReads) -> None:
        self._source = source
        self._hop = hop
        self._group = table.group
        self._path = quote(table.path).encode() + b"/"
        self._reads = reads

    async def respond(self, segment: bytes, scope: Scope, send: Send, asked: Asked | None = None) -> int:
        """Let the owner answer for this key, and wait for what is asked; the result is the status."""
        peer = self.owner(segment)
        if isinstance(peer, Problem):
            return await peer.send(send)
        request, wait_s, send = self.request(segment, scope, send, asked)
        return await self._hop.relay(peer, scope, request, READING, send, wait_s=wait_s)

    def owner(self, segment: bytes) -> Peer | Problem:
        """The other worker that owns this key, or what to say where there is none."""
        place = self._reads.locate(segment)
        if isinstance(place, Problem):
            return place
        peer = self._source.peer(self._group, place[0])
        # Nobody's yet, or this worker's in a moment.
        return NOT_OWNED if peer is None or peer.is_self else peer

    def request(
        self, segment: bytes, scope: Scope, send: Send, asked: Asked | None, kind: HopKind = HopKind.READ
    ) -> tuple[Request, float, Send]:
        """What the owner is asked, how long it may wait, and how its answer is sent.

        The path is written anew, of the table's and the key: what else a client has put there stays here.
        Cookies are for this worker alone, too: the owner gets and gives the position in its header.
        """
        # Letters and digits can be written in one way only.
        written = segment if segment.isalnum() else _written(segment)
        headers = self._hop.asked(scope["headers"], READING)
        if asked is not None and asked.sets_cookie:
            asked = self._source.waits.tolerated(asked)
            if asked.is_cookie and asked.token is not None:
                headers.append((POSITION, asked.token.text().encode()))
            send = carrying(asked, send, is_read=True)
        wait_s = asked.wait_s if asked is not None else 0.0
        return Request(scope["method"], self._path + written, headers, b"", kind), wait_s, send


def _written(segment: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(segment), safe="").encode()
