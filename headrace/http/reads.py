"""Point reads: the bytes of one row, the position they stand for, and nothing in between."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from starlette.types import Send

from headrace.errors import HeadraceError, StillRecovering
from headrace.events.position import Catalog, Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.events.token import Token
from headrace.http.consistency import POSITION, Asked
from headrace.http.problems import (
    RECOVERING,
    Problem,
    RawHeader,
    bad_request,
    problem_of,
)
from headrace.http.source import ServedTable, Shadowing
from headrace.http.waiting import Waits
from headrace.tables.view import PartitionView

_JSON: RawHeader = (b"content-type", b"application/json")
# A row is as of now: whoever stores it asks again before using it.
_REVALIDATE: RawHeader = (b"cache-control", b"no-cache")
ELSEWHERE = -1
"""Instead of a status: nothing was sent, for the partition is not here."""

_PLACES_CACHED = 8_192
_CACHED_BYTES_MAX = 64

_NO_ROW = Problem(404, "No row has this key.")
_HIDDEN_NUL = bad_request("A NUL character cannot stand here.")
_BAD_ESCAPE = bad_request("A percent sign begins no escape here.")
_NOT_TEXT = bad_request("This is not UTF-8.")


class PointSource(Protocol):
    """What a point read asks of a worker."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def shadows(self) -> Mapping[str, Shadowing]: ...
    @property
    def waits(self) -> Waits: ...
    def view(self, group: str, partition: int) -> PartitionView | None: ...


class Found(NamedTuple):
    """What a read of a key is answered with."""

    status: int
    headers: list[RawHeader]
    body: bytes


class PointReads:
    """`GET {path}/{key}` for one table."""

    __slots__ = ("_find", "_group", "_shadow", "_source", "_table", "_tokens")

    def __init__(self, source: PointSource, table: ServedTable) -> None:
        self._source = source
        self._table = table
        self._group = table.group
        self._shadow = source.shadows.get(table.name)
        self._find = lru_cache(maxsize=_PLACES_CACHED)(self._locate)
        # The last token of each partition, with what it was made of: a row is read far more often
        # than its partition moves.
        self._tokens: list[tuple[Position, Seen, Catalog, bytes] | None] = [None] * table.partitions

    async def respond(
        self, segment: bytes, if_none_match: bytes | None, send: Send, asked: Asked | None = None
    ) -> int:
        """Answer for the key in this percent-encoded path segment; the result is the status, or ELSEWHERE."""
        place = self.locate(segment)
        if isinstance(place, Problem):
            return await place.send(send)
        view = self._source.view(self._group, place[0])
        if view is None:
            return ELSEWHERE
        more: Sequence[RawHeader] = ()
        if asked is not None:
            try:
                asked = await self._source.waits.reach(asked, (view,))
            except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
                return await self._source.waits.problem(error, (view,)).send(send)
            # No turn of the loop from here to the row: what was reached is what is read.
            more = self._source.waits.headers(asked, (view,))
        try:
            found = self._found(view, place, if_none_match)
        except StillRecovering:
            return await RECOVERING.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        headers = [*found.headers, *more]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})
        return found.status

    def at_once(self, segment: bytes, if_none_match: bytes | None, token: Token | None) -> Found | None:
        """The answer, where nothing has to be waited, asked or explained for it; None: `respond` has to.

        Raises: as `row`.
        """
        place = self.locate(segment)
        if isinstance(place, Problem):
            return None
        view = self._source.view(self._group, place[0])
        if view is None or (token is not None and not self._source.waits.is_contained(token, view)):
            return None
        return self._found(view, place, if_none_match)

    def _found(self, view: PartitionView, place: tuple[int, bytes], if_none_match: bytes | None) -> Found:
        """Row and position of one turn of the loop: a publish cannot come in between."""
        partition, store_key = place
        row = self.row(view, store_key)
        position = (POSITION, self._token(partition, view))
        if self._shadow is not None:
            self._shadow.served(view, store_key, row)
        if row is None:
            return Found(_NO_ROW.status, [*_NO_ROW.headers, position], _NO_ROW.body)
        etag = b'"%b"' % blake2b(row, digest_size=8).hexdigest().encode()
        if if_none_match is not None and is_match(if_none_match, etag):
            return Found(304, [(b"etag", etag), _REVALIDATE, position], b"")
        length = (b"content-length", b"%d" % len(row))
        return Found(200, [_JSON, length, (b"etag", etag), _REVALIDATE, position], row)

    def row(self, view: PartitionView, store_key: bytes) -> bytes | None:
        """The committed row as clients see it. Raises: as `PartitionView.get`, and RowMismatch."""
        row = view.get(store_key)
        return row if row is None or self._table.renewed is None else self._table.renewed(row)

    def locate(self, segment: bytes) -> tuple[int, bytes] | Problem:
        """Partition and store key of the key in a path segment, or the problem with it."""
        # Only short keys are kept: a stranger must not fill the memory with long ones.
        return self._find(segment) if len(segment) <= _CACHED_BYTES_MAX else self._locate(segment)

    def _locate(self, segment: bytes) -> tuple[int, bytes] | Problem:
        key = key_text(segment)
        return key if isinstance(key, Problem) else self.locate_text(key)

    def locate_text(self, key: str) -> tuple[int, bytes] | Problem:
        """Partition and store key of a key in its text form, or the problem with it."""
        table = self._table
        try:
            typed = table.keys.from_text(key)
            store_key = table.row_prefix + table.keys.to_store(typed)
            return table.partitioner.place(table.keys.to_wire(typed), table.partitions), store_key
        except (HeadraceError, RecursionError) as error:
            return bad_key(error)

    def _token(self, partition: int, view: PartitionView) -> bytes:
        position, seen, catalog = view.position, view.seen, self._source.catalog
        known = self._tokens[partition]
        if known is not None and known[0] is position and known[1] is seen and known[2] is catalog:
            return known[3]
        token = token_bytes(position, catalog, seen)
        self._tokens[partition] = (position, seen, catalog, token)
        return token


def token_bytes(position: Position, catalog: Catalog, seen: Seen = NOTHING_SEEN) -> bytes:
    """The value of a Headrace-Position header."""
    return Token.of(position, catalog, seen).text().encode()


def key_text(segment: bytes) -> str | Problem:
    """The text of one percent-encoded part of a URL, or the problem with it."""
    if b"%" in segment:
        raw = unquote_to_bytes(segment)
        # Each escape is two bytes longer than what it stands for. One that is none stays as it is;
        # accepted, it would be a second spelling of another key.
        if len(segment) - len(raw) != 2 * segment.count(b"%"):
            return _BAD_ESCAPE
    else:
        raw = segment
    if b"\0" in raw:
        return _HIDDEN_NUL
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _NOT_TEXT


def bad_key(error: Exception) -> Problem:
    """400 for a key that does not have the table's key type."""
    # Deeply nested JSON where a tuple belongs: the decoder's own bound.
    return bad_request(error.what if isinstance(error, HeadraceError) else "The key is nested too deeply.")


def is_match(if_none_match: bytes, etag: bytes) -> bool:
    """Whether an If-None-Match header covers this tag, by weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match == etag:
        return True
    # A comma may stand inside a tag; ours hold hex only, so what such a tag is cut into matches none.
    tags = (tag.strip() for tag in if_none_match.split(b","))
    return any(tag == b"*" or tag.removeprefix(b"W/") == etag for tag in tags)
