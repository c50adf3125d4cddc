"""What part of a table a scan asks for: a range of store keys, from the text of a URL's query."""

import base64
import binascii
from typing import NamedTuple

from headrace.errors import HeadraceError
from headrace.events.key import BytesKey, StrKey
from headrace.http.problems import Problem, bad_request
from headrace.http.reads import bad_key, key_text
from headrace.http.source import ServedTable

_KNOWN = frozenset({"start", "end", "prefix", "limit", "cursor"})
_CURSOR_VERSION = b"\x01"

_MALFORMED = bad_request("A scan takes name=value pairs, each name once: " + ", ".join(sorted(_KNOWN)) + ".")
_BAD_LIMIT = bad_request("limit is not a positive whole number.")
_BAD_CURSOR = bad_request("cursor is none of this table; send it back as it was received.")
_NO_PREFIX = bad_request("prefix needs a table with keys of text or bytes; use start and end.")


class RowRange(NamedTuple):
    """Rows with start <= store key < end, at most so many."""

    start: bytes
    end: bytes
    rows_max: int


def parse_range(query: bytes, table: ServedTable, *, rows_default: int, rows_max: int) -> RowRange | Problem:
    """The range that a query asks for, or the problem with it.

    Unknown and repeated names are refused: a misspelt bound must not widen the answer.
    """
    fields = query_fields(query, _KNOWN)
    if isinstance(fields, Problem):
        return fields
    limit = _limit(fields.get("limit"), min(rows_default, rows_max), rows_max)
    if isinstance(limit, Problem):
        return limit
    start = table.row_prefix
    end = _after_prefix(table.row_prefix)
    try:
        if "start" in fields:
            start = _store_key(table, fields["start"])
        if "end" in fields:
            end = _store_key(table, fields["end"])
        if "prefix" in fields:
            if not isinstance(table.keys, (StrKey, BytesKey)):
                return _NO_PREFIX
            prefix = _store_key(table, fields["prefix"])
            start, end = max(start, prefix), min(end, _after_prefix(prefix))
    except (HeadraceError, RecursionError) as error:
        return bad_key(error)
    if "cursor" in fields:
        last = _cursor(fields["cursor"], table)
        if last is None:
            return _BAD_CURSOR
        start = max(start, last + b"\0")
    return RowRange(start, max(start, end), limit)


def cursor_of(store_key: bytes) -> bytes:
    """The opaque text of the place behind this row; the table's name is part of a store key."""
    return base64.urlsafe_b64encode(_CURSOR_VERSION + store_key).rstrip(b"=")


def _cursor(text: str, table: ServedTable) -> bytes | None:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw[1:] if raw.startswith(_CURSOR_VERSION + table.row_prefix) else None


def query_fields(query: bytes, known: frozenset[str]) -> dict[str, str] | Problem:
    """The values of a query by name, or the problem with it: a name that is unknown or repeated."""
    if not query:
        return {}
    fields: dict[str, str] = {}
    for pair in query.split(b"&"):
        raw_name, equals, value = pair.partition(b"=")
        name = raw_name.decode("latin-1")
        if not equals or name not in known or name in fields:
            return _MALFORMED
        text = key_text(value.replace(b"+", b" "))
        if isinstance(text, Problem):
            return text
        fields[name] = text
    return fields


def _limit(text: str | None, default: int, rows_max: int) -> int | Problem:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) == 0:
        return _BAD_LIMIT
    return min(int(text), rows_max)


def _store_key(table: ServedTable, text: str) -> bytes:
    return table.row_prefix + table.keys.to_store(table.keys.from_text(text))


def _after_prefix(prefix: bytes) -> bytes:
    """The least key behind all that begin with this prefix; a row prefix never is all 0xff."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))
