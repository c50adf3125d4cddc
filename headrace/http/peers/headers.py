"""What of a request reaches another worker, and what of its answer comes back: by name, nothing else."""

from collections.abc import Iterable
from typing import NamedTuple

from headrace.events.trace import active_trace
from headrace.http.problems import RawHeader

AUTHORIZATION = b"authorization"
_COOKIE = b"cookie"
_CREDENTIALS = frozenset({AUTHORIZATION, _COOKIE})
_TRACE = frozenset({b"traceparent", b"tracestate"})

OF_READS = frozenset(
    {
        b"accept",
        AUTHORIZATION,
        b"headrace-consistency",
        b"headrace-position",
        b"if-none-match",
        b"prefer",
        *_TRACE,
    }
)
"""Of a read."""
OF_ROWS = frozenset(
    {
        b"cache-control",
        b"content-type",
        b"etag",
        b"headrace-position",
        b"headrace-unproven",
        b"preference-applied",
        b"retry-after",
        b"www-authenticate",
    }
)
"""Of the answer to a read."""
OF_REQUESTS = OF_READS | {
    b"accept-language",
    b"content-encoding",
    b"content-language",
    b"content-type",
    _COOKIE,
    b"idempotency-key",
    b"if-match",
    b"origin",
    b"user-agent",
}
"""Of a request for a route of the app."""
OF_ANSWERS = OF_ROWS | {
    b"allow",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"expires",
    b"idempotent-replayed",
    b"last-modified",
    b"link",
    b"location",
    b"set-cookie",
    b"vary",
}
"""Of the answer of a route."""

NEVER = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"forwarded",
        b"headrace-hop",
        b"headrace-partitions",
        b"headrace-proof",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
    }
)
"""What belongs to one connection, or to the hop itself: no setting lets it through."""


class Rules(NamedTuple):
    """Names of the headers that pass, in either direction."""

    asked: frozenset[bytes]
    answered: frozenset[bytes]


READING = Rules(OF_READS, OF_ROWS)


def requesting(asked: Iterable[str], answered: Iterable[str]) -> Rules:
    """The rules for routes, with the headers that the settings add."""
    return Rules(
        OF_REQUESTS | _named(asked),
        OF_ANSWERS | _named(answered),
    )


def _named(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names) - NEVER


def asked_of(headers: Iterable[RawHeader], names: frozenset[bytes], *, is_proven: bool) -> list[RawHeader]:
    """What another worker gets of a request's headers; no credentials unless it has proved who it is.

    What `Connection` names belongs to the connection it came over, and stays there.
    """
    trace = active_trace.get()
    kept: dict[bytes, list[bytes]] = {}
    dropped: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            dropped |= {token.strip().lower() for token in value.split(b",")}
        elif name in names and (is_proven or name not in _CREDENTIALS):
            kept.setdefault(name, []).append(value)
    if trace is not None:
        kept = {name: values for name, values in kept.items() if name not in _TRACE}
    # Several fields of one name mean the same as one list, cookies apart (RFC 9110, 5.3; RFC 9113, 8.2.3).
    found = [
        (name, (b"; " if name == _COOKIE else b", ").join(values))
        for name, values in kept.items()
        if name not in dropped
    ]
    return found if trace is None else [*found, *((name.encode(), value) for name, value in trace.headers())]


def answered_of(headers: Iterable[RawHeader], names: frozenset[bytes]) -> list[RawHeader]:
    """What the client gets of the headers of another worker's answer."""
    return [header for header in headers if header[0] in names]
