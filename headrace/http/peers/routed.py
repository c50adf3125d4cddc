"""Point reads of rows that another worker has."""

from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from starlette.types import Scope, Send

from headrace.http.consistency import POSITION, Asked, carrying
from headrace.http.peers.figures import HopKind
from headrace.http.peers.headers import READING
from headrace.http.peers.hop import Hop, Request
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
        place = self._reads.locate(segment)
        if isinstance(place, Problem):
            return await place.send(send)
        peer = self._source.peer(self._group, place[0])
        if peer is None or peer.is_self:
            # Nobody's yet, or this worker's in a moment.
            return await NOT_OWNED.send(send)
        request = self._request(segment, scope)
        if asked is None:
            return await self._hop.relay(peer, scope, request, READING, send)
        if asked.sets_cookie:
            # Cookies are for this worker alone: the owner gets and gives the position in its header.
            asked = self._source.waits.tolerated(asked)
            if asked.is_cookie and asked.token is not None:
                position = (POSITION, asked.token.text().encode())
                request = request._replace(headers=[*request.headers, position])
            send = carrying(asked, send)
        return await self._hop.relay(peer, scope, request, READING, send, wait_s=asked.wait_s)

    def _request(self, segment: bytes, scope: Scope) -> Request:
        # The path is written anew, of the table's and the key: what else a client has put there stays here.
        target = self._path + quote_from_bytes(unquote_to_bytes(segment), safe="").encode()
        return Request(scope["method"], target, self._hop.asked(scope["headers"], READING), b"", HopKind.READ)
