"""Scans over all workers: each gives its part on a snapshot of its own; all of them, or no page."""

import asyncio
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple
from urllib.parse import quote, quote_from_bytes

from starlette.types import Scope, Send

from headrace.errors import ForeignToken, MalformedToken, PeerError, PeerUnreachable, StillRecovering
from headrace.events.token import Token
from headrace.flow.members import Peer
from headrace.http.consistency import POSITION, Asked
from headrace.http.part import BadPart, Part, decode_part, page_of, send_page
from headrace.http.partreader import PartReader
from headrace.http.peers.answer import Answer
from headrace.http.peers.figures import HopKind
from headrace.http.peers.headers import READING
from headrace.http.peers.hop import VISIBLE, Hop, is_hopped, pass_on, problem_for
from headrace.http.peers.request import Request, Unsendable
from headrace.http.problems import NOT_OWNED, RECOVERING, Problem, bad_request
from headrace.http.query import RowRange
from headrace.http.source import ReadSource, ServedTable
from headrace.tables.view import PartitionView

PARTITIONS = b"headrace-partitions"
"""Names the partitions of which a worker wants a part."""
_UNPROVEN = b"headrace-unproven"
_PAGES_AT_ONCE = 16
"""Each holds a part of every worker."""
_MALFORMED = bad_request("Headrace-Partitions names no partitions of this table.")


class _Share(NamedTuple):
    """What one worker has of a page."""

    part: Part
    token: Token
    unproven: Sequence[str]


class _Refused(Exception):
    """A worker answered with something else than its part."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Fan:
    """Pages of one table that more than one worker has a part of."""

    def __init__(self, source: ReadSource, table: ServedTable, hop: Hop, reader: PartReader) -> None:
        self._source = source
        self._table = table
        self._hop = hop
        self._reader = reader
        self._path = quote(table.path).encode()
        # Parts are read under turns of their own: two workers never wait for each other.
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def respond(self, wanted: RowRange, scope: Scope, send: Send, asked: Asked) -> int:
        """Answer with a page of all workers' parts; the result is the status."""
        views: list[PartitionView] = []
        peers: dict[Peer, list[int]] = {}
        for number in range(self._table.partitions):
            view = self._source.view(self._table.group, number)
            peer = None if view is not None else self._source.peer(self._table.group, number)
            if view is not None:
                views.append(view)
            elif peer is None or peer.is_self:
                return await NOT_OWNED.send(send)
            else:
                peers.setdefault(peer, []).append(number)
        asked = self._source.waits.tolerated(asked)
        try:
            async with self._pages:
                shares = await self._shares(views, peers, wanted, scope, asked)
                body, token = await self._merged(shares, wanted)
        except _Refused as refusal:
            return await pass_on(refusal.answer, READING, scope["method"], send)
        except PeerError as error:
            return await problem_for(error, "GET").send(send)
        except StillRecovering:
            return await RECOVERING.send(send)
        except Unsendable:
            return await _MALFORMED.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await self._source.waits.problem(error, views).send(send)
        unproven = list(dict.fromkeys(text for share in shares for text in share.unproven))
        more = self._source.waits.stated(asked, unproven, token)
        return await send_page(send, body, b"application/json", token, more)

    async def _shares(
        self,
        views: Sequence[PartitionView],
        peers: dict[Peer, list[int]],
        wanted: RowRange,
        scope: Scope,
        asked: Asked,
    ) -> list[_Share]:
        """Every worker's share; the first that fails ends all. Raises: what it failed with."""
        try:
            async with asyncio.TaskGroup() as tasks:
                sharing = [
                    tasks.create_task(self._of_peer(*item, wanted, scope, asked), name="part of a peer")
                    for item in peers.items()
                ]
                if views:
                    sharing.append(tasks.create_task(self._own(views, wanted, asked), name="own part"))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [share.result() for share in sharing]

    async def _own(self, views: Sequence[PartitionView], wanted: RowRange, asked: Asked) -> _Share:
        waits = self._source.waits
        asked = await waits.reach(asked, views)
        taken = await self._reader.read(views, wanted, lambda part: part)
        unproven = waits.unproven(asked.demanded, taken.frozen) if asked.demanded is not None else ()
        token = Token.of(taken.position, self._source.catalog, taken.seen)
        return _Share(taken.result, token, unproven)

    async def _of_peer(
        self, peer: Peer, numbers: Sequence[int], wanted: RowRange, scope: Scope, asked: Asked
    ) -> _Share:
        answer = await self._hop.ask(peer, self._request(numbers, scope, asked), wait_s=asked.wait_s)
        if answer.status != 200:
            raise _Refused(answer)
        try:
            part = decode_part(answer.body, wanted)
            token = Token.parse((answer.first(POSITION) or b"").decode("latin-1"))
            token = Token.nothing(self._source.catalog).merge(token)
        except (BadPart, MalformedToken, ForeignToken) as error:
            raise self._hop.unreachable(peer, HopKind.SCAN, error) from error
        unproven = (answer.first(_UNPROVEN) or b"").decode("latin-1")
        return _Share(part, token, unproven.split(", ") if unproven else ())

    def _request(self, numbers: Sequence[int], scope: Scope, asked: Asked) -> Request:
        headers = self._hop.asked(scope["headers"], READING)
        if asked.is_cookie and asked.token is not None:
            headers.append((POSITION, asked.token.text().encode()))
        headers.append((PARTITIONS, b",".join(b"%d" % number for number in numbers)))
        query = quote_from_bytes(scope["query_string"], VISIBLE).encode()
        target = self._path + b"?" + query if query else self._path
        return Request("GET", target, headers, b"", HopKind.SCAN)

    async def _merged(self, shares: Sequence[_Share], wanted: RowRange) -> tuple[bytes, Token]:
        keys, prefix_size = self._table.keys, len(self._table.row_prefix)
        try:
            token = reduce(Token.merge, (share.token for share in shares))
        except ForeignToken as error:
            raise PeerUnreachable("the workers do not read the same topics") from error
        parts = [share.part for share in shares]
        body = await asyncio.to_thread(page_of, parts, keys, prefix_size, wanted.rows_max)
        return body, token


def parse_partitions(scope: Scope, partitions: int) -> Sequence[int] | Problem | None:
    """The partitions of which another worker wants a part; None when a client wants a page."""
    values = [value for name, value in scope["headers"] if name == PARTITIONS]
    if not values or not is_hopped(scope):
        return None
    texts = values[0].split(b",") if len(values) == 1 else []
    numbers = {int(text) for text in texts if text.isdigit() and len(text) <= 9}
    if not texts or len(numbers) != len(texts) or max(numbers) >= partitions:
        return _MALFORMED
    return sorted(numbers)
