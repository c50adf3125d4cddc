"""Point reads of rows that another worker has."""

from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from starlette.types import Scope, Send

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

    async def respond(self, segment: bytes, scope: Scope, send: Send) -> int:
        """Let the owner answer for this key; the result is the status."""
        place = self._reads.locate(segment)
        if isinstance(place, Problem):
            return await place.send(send)
        peer = self._source.peer(self._group, place[0])
        if peer is None or peer.is_self:
            # Nobody's yet, or this worker's in a moment.
            return await NOT_OWNED.send(send)
        return await self._hop.relay(peer, scope, self._request(segment, scope), READING, send)

    def _request(self, segment: bytes, scope: Scope) -> Request:
        # The path is written anew, of the table's and the key: what else a client has put there stays here.
        target = self._path + quote_from_bytes(unquote_to_bytes(segment), safe="").encode()
        return Request(scope["method"], target, self._hop.asked(scope["headers"], READING), b"", HopKind.READ)
