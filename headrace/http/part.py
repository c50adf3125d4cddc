"""Shares of a scan page: the rows that one worker has of it, and how a page is made of them."""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from starlette.types import Send

from headrace.events.key import KeyCodec
from headrace.events.token import Token
from headrace.http.consistency import POSITION
from headrace.http.problems import RawHeader
from headrace.http.query import RowRange, cursor_of

PART_BYTES_MAX = 4 * 1024 * 1024
"""About how many bytes of keys and rows a part has at most; a page goes on behind it."""
_ROWS_PER_TURN = 64

Row = tuple[bytes, bytes]
"""Store key, and the value as clients see it."""

_decoder = msgspec.msgpack.Decoder(tuple[bool, list[Row]])


class Part(NamedTuple):
    """Rows of some partitions in key order, from the beginning of the range on, without a gap."""

    rows: list[Row]
    has_more: bool
    """Whether more rows of these partitions follow in the range."""

    def encode(self) -> bytes:
        """The part as workers send it to each other."""
        return msgspec.msgpack.encode((self.has_more, self.rows))


class BadPart(ValueError):
    """What another worker sent is no part of the page that is asked for."""


def decode_part(body: bytes, wanted: RowRange) -> Part:
    """The part that another worker sent. Raises: BadPart, also where it breaks what a part promises."""
    try:
        has_more, rows = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise BadPart("it cannot be read") from error
    is_ordered = all(one[0] < other[0] for one, other in pairwise(rows))
    is_inside = not rows or (wanted.start <= rows[0][0] and rows[-1][0] < wanted.end)
    if not is_ordered or not is_inside or (has_more and not rows):
        raise BadPart("its rows are not those of the range, in order")
    return Part(rows, has_more)


def take_part(
    rows: Iterator[Row],
    renewed: Callable[[bytes], bytes] | None,
    rows_max: int,
    is_abandoned: threading.Event,
) -> Part:
    """The first of these rows, in a thread; as far as it came when nobody wants it any more.

    At least one row is taken, whatever its size: a part with more behind it is never empty.
    """
    taken: list[Row] = []
    size = 0
    for key, stored in rows:
        if taken and (len(taken) == rows_max or size + len(stored) > PART_BYTES_MAX):
            return Part(taken, True)
        if len(taken) % _ROWS_PER_TURN == 0:
            if is_abandoned.is_set():
                break
            # Hands the interpreter to the loop, which would else wait up to 5 ms for it.
            time.sleep(0)
        value = stored if renewed is None else renewed(stored)
        taken.append((key, value))
        size += len(key) + len(value)
    return Part(taken, False)


def page_of(parts: Sequence[Part], keys: KeyCodec[Any], prefix_size: int, rows_max: int) -> bytes:
    """One page as JSON, in key order over all parts, in a thread.

    It ends in front of what a part did not bring: nothing is left out in the middle.
    """
    bound = min((part.rows[-1][0] for part in parts if part.has_more), default=None)
    has_more = bound is not None
    shown: list[bytes] = []
    last = b""
    for key, value in heapq.merge(*(part.rows for part in parts)):
        if len(shown) == rows_max or (bound is not None and key > bound):
            has_more = True
            break
        if len(shown) % _ROWS_PER_TURN == 0:
            time.sleep(0)
        text = msgspec.json.encode(keys.to_json(keys.from_store(key[prefix_size:])))
        shown.append(b'{"key":' + text + b',"value":' + value + b"}")
        last = key
    cursor = b'"' + cursor_of(last) + b'"' if has_more else b"null"
    return b'{"rows":[' + b",".join(shown) + b'],"cursor":' + cursor + b"}"


async def send_page(
    send: Send, body: bytes, content_type: bytes, token: Token, more: Iterable[RawHeader]
) -> int:
    """Send a page or a part, with what it contains; the result is the status."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache"),
        (POSITION, token.text().encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return 200
