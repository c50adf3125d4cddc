"""Point reads that are answered as soon as their request is parsed.

No task, no ASGI messages, no second turn of the loop: most of what a read costs is on that way. Whatever is
not the plain case is left to the application, which judges it from the beginning.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from time import perf_counter

from headrace.events.token import Token
from headrace.http.access import Guard
from headrace.http.consistency import POSITION
from headrace.http.metrics import Meter
from headrace.http.problems import RawHeader
from headrace.http.reads import PointReads
from headrace.settings import Settings

_AUTHORIZATION, _IF_NONE_MATCH, _HOST, _ACCEPT = b"authorization", b"if-none-match", b"host", b"accept"
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_ONCE = frozenset({_AUTHORIZATION, _IF_NONE_MATCH, _HOST, POSITION})
"""What is judged here, where it stands once."""


class DirectReads:
    """Answers plain point reads of one worker's tables."""

    __slots__ = ("_guard", "_header_bytes_max", "_left", "_reads", "_url_bytes_max")

    def __init__(
        self,
        reads: Mapping[bytes, tuple[PointReads, Meter]],
        guard: Guard,
        settings: Settings,
        noted: frozenset[bytes],
    ) -> None:
        self._guard = guard
        self._url_bytes_max = settings.http_url_bytes_max
        self._header_bytes_max = settings.http_header_bytes_max
        # With cookies every answer has more to it.
        self._reads = {} if settings.http_position_cookie else reads
        self._left = noted - _ONCE
        """Headers that make a request more than plain."""

    def answer(self, url: bytes, headers: Sequence[RawHeader], of_all: Sequence[RawHeader]) -> bytes | None:
        """The whole answer to `GET url` with these headers, or None; `of_all` stands in every answer."""
        started = perf_counter()
        cut = url.rfind(b"/")
        read = self._reads.get(url[:cut])
        if read is None or len(url) > self._url_bytes_max or not _is_plain(segment := url[cut + 1 :]):
            return None
        noted = self._noted(headers)
        if noted is None or not self._guard.admits(noted.get(_AUTHORIZATION)):
            return None
        reads, meter = read
        try:
            token = Token.parse(noted[POSITION].decode("latin-1")) if POSITION in noted else None
            found = reads.at_once(segment, noted.get(_IF_NONE_MATCH), token)
        except Exception:  # noqa: BLE001  (the application comes to the same, maps it to an answer and logs it)
            return None
        if found is None:
            return None
        lines = [_STATUS_LINES[found.status]]
        for name, value in (*of_all, *found.headers):
            lines += (name, b": ", value, b"\r\n")
        lines += (b"\r\n", found.body)
        meter.count(found.status, perf_counter() - started)
        return b"".join(lines)

    def _noted(self, headers: Sequence[RawHeader]) -> Mapping[bytes, bytes] | None:
        """The headers that are judged here; None where there is anything else to judge."""
        noted: dict[bytes, bytes] = {}
        size = 0
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name in _ONCE:
                if name in noted:
                    return None
                noted[name] = value
            elif name in self._left or (name == _ACCEPT and b"text/event-stream" in value):
                return None
        return noted if _HOST in noted and size <= self._header_bytes_max else None


def _is_plain(segment: bytes) -> bool:
    return b"?" not in segment and b"#" not in segment and segment.isascii()
