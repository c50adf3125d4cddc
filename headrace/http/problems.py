"""Errors as RFC 9457 problem documents, and the one table that maps error classes to HTTP statuses."""

import http
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Send

from headrace.errors import (
    AlreadyRunning,
    CommitUnknown,
    DecodeError,
    Fenced,
    ForeignToken,
    HeadraceError,
    KeyReused,
    MalformedKey,
    NotOwner,
    NotReached,
    PartitionStopped,
    PeerError,
    PositionError,
    RecordTooLarge,
    StillRecovering,
    StoreCorrupt,
    TaskFailed,
    TooManyWaiters,
    Unavailable,
    UnencodableValue,
    UnrecordableAnswer,
    UntrueToken,
    WorkerStopping,
)

logger = logging.getLogger("headrace.http")

RawHeader = tuple[bytes, bytes]

RETRY_AFTER: RawHeader = (b"retry-after", b"1")
CLOSE: RawHeader = (b"connection", b"close")


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class Problem:
    """One error answer, encoded once and sent as often as needed.

    Shape: RFC 9457 with `error` as extension: the name of the class in headrace/errors, when
    there is one.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, detail: str, *headers: RawHeader, error: str = "", **members: Any
    ) -> None:
        document: dict[str, Any] = {"type": "about:blank", "title": _title(status), "status": status}
        if detail:
            document["detail"] = detail
        if error:
            document["error"] = error
        document.update(members)
        self.status = status
        self.body = msgspec.json.encode(document)
        self.headers: tuple[RawHeader, ...] = (
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            *headers,
        )

    async def send(self, send: Send, *more: RawHeader) -> int:
        """Send it, with these headers too; the result is the status."""
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, *more]})
        await send({"type": "http.response.body", "body": self.body})
        return self.status


NOT_FOUND = Problem(404, "Nothing is served at this path.")
NOT_OWNED = Problem(503, "This partition is owned by another worker.", RETRY_AFTER, error="NotOwner")
RECOVERING = Problem(
    503,
    "This partition is being restored; /readyz tells how far it is.",
    RETRY_AFTER,
    error="StillRecovering",
)
INTERNAL = Problem(500, "The request failed here; the worker's log says why.")

_AS_SAID = ""
"""The error's own sentence is fit for clients: it speaks of what the client sent."""

_STATUSES: dict[type[HeadraceError], tuple[int, str, tuple[RawHeader, ...]]] = {
    DecodeError: (400, _AS_SAID, ()),
    UnencodableValue: (400, _AS_SAID, ()),
    PositionError: (400, _AS_SAID, ()),
    MalformedKey: (400, _AS_SAID, ()),
    KeyReused: (422, _AS_SAID, ()),
    UnrecordableAnswer: (501, _AS_SAID, ()),
    UntrueToken: (409, _AS_SAID, ()),
    ForeignToken: (409, _AS_SAID, ()),
    RecordTooLarge: (413, "This makes an event that is larger than the log takes.", ()),
    StillRecovering: (503, "This partition is being restored; /readyz tells how far it is.", (RETRY_AFTER,)),
    NotOwner: (503, "This partition is owned by another worker.", (RETRY_AFTER,)),
    PeerError: (503, "The worker that owns this cannot be asked.", (RETRY_AFTER,)),
    PartitionStopped: (503, "This partition stands still in front of an event that its agent refuses.", ()),
    TaskFailed: (503, _AS_SAID, (RETRY_AFTER,)),
    NotReached: (503, _AS_SAID, (RETRY_AFTER,)),
    TooManyWaiters: (503, "As many requests wait here as may.", (RETRY_AFTER,)),
    Unavailable: (503, "The log does not answer; nothing was committed.", (RETRY_AFTER,)),
    WorkerStopping: (503, "This worker stops; nothing was committed.", (RETRY_AFTER,)),
    Fenced: (503, "This worker was replaced by another one; nothing was committed.", (RETRY_AFTER,)),
    AlreadyRunning: (503, "Another worker holds the log; nothing was committed.", (RETRY_AFTER,)),
    CommitUnknown: (
        503,
        "The outcome is unknown: what this request sent may or may not have been committed.",
        (RETRY_AFTER,),
    ),
    StoreCorrupt: (503, "The stored rows cannot be read and are being rebuilt.", (RETRY_AFTER,)),
}
"""Status, detail and headers by class; a class that is not here takes its nearest ancestor's, else 500."""


def problem_of(error: BaseException, reached: str = "") -> Problem:
    """The problem that tells a client of this error; what the client cannot cure is logged.

    Shape: `reached` is the token of the position that was reached, for who waited for one.
    """
    if isinstance(error, HTTPException):
        return Problem(error.status_code, error.detail, *_raw(error.headers))
    known = next((cls for cls in type(error).__mro__ if cls in _STATUSES), None)
    if known is None:
        logger.error("a request failed", exc_info=error)
        return INTERNAL
    status, detail, headers = _STATUSES[known]
    if status >= 500:
        logger.log(_level(error, status), "a request failed: %s", error)
    said = error.what if isinstance(error, HeadraceError) else ""
    members: dict[str, Any] = {}
    if isinstance(error, NotReached):
        reached, members = error.reached, {"missing": error.missing}
    if reached:
        headers, members = (
            (*headers, (b"headrace-position", reached.encode())),
            {**members, "reached": reached},
        )
    return Problem(status, detail or said, *headers, error=known.__name__, **members)


def _level(error: BaseException, status: int) -> int:
    if isinstance(error, NotReached | TooManyWaiters):
        return logging.DEBUG  # clients can ask for what takes long, as often as they like
    return logging.ERROR if status == 500 else logging.WARNING


def bad_request(detail: str) -> Problem:
    """400, with what is wrong; never with what the client sent."""
    return Problem(400, detail)


def method_not_allowed(methods: Iterable[str]) -> Problem:
    """405, with the methods that are allowed."""
    allowed = ", ".join(sorted(methods))
    return Problem(405, f"Allowed here: {allowed}.", (b"allow", allowed.encode()))


def _raw(headers: Any) -> list[RawHeader]:
    """Headers of an HTTPException, without those that describe the document it would have sent."""
    pairs = ((name.lower(), value) for name, value in (headers or {}).items())
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in pairs
        if name not in {"content-type", "content-length", "cache-control"}
    ]
