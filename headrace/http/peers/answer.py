"""What another worker answers, taken from the wire: strictly, bounded, or refused."""

import re
from functools import lru_cache
from typing import NamedTuple

from headrace.http.problems import RawHeader

HEAD_BYTES_MAX = 32 * 1024
_SIZE_LINE_BYTES_MAX = 16
_END_OF_HEAD = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,12}")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_BODILESS = frozenset({204, 304})
_KEPT_LINES = 2048
_KEPT_LINE_BYTES_MAX = 128


class BadAnswer(Exception):
    """What came is no answer that may be passed on; the text says why."""


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: tuple[RawHeader, ...]
    """Names in lower case, in the order in which they came."""
    body: bytes

    def first(self, name: bytes) -> bytes | None:
        """The value of the first header of this name."""
        return next((value for known, value in self.headers if known == name), None)


class AnswerParser:
    """Takes one HTTP/1.1 answer from chunks of bytes.

    It is stricter than the standard: bare line ends, folded or doubled framing headers, trailers,
    chunk extensions, and bodies that end with the connection are refused, for none of our servers sends
    them, and nobody is to see an end where another one sees none.
    """

    __slots__ = ("_body_bytes_max", "_buffer", "_is_head", "_left", "_size", "_step", "headers",
                 "is_done", "is_last", "parts", "status")  # fmt: skip

    def __init__(self, *, is_head: bool, body_bytes_max: int) -> None:
        self.status = 0
        """Of the answer, once its head is there; 0 before."""
        self.headers: tuple[RawHeader, ...] = ()
        self.parts: list[bytes] = []
        """What has come of the body and was not taken away."""
        self.is_done = False
        self.is_last = False
        """Whether the connection ends with this answer."""
        self._is_head = is_head
        self._body_bytes_max = body_bytes_max
        self._buffer = b""
        self._step = self._head
        self._left = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises: BadAnswer, for anything behind the end of the answer, too."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer:
            if self.is_done:
                raise BadAnswer("it goes on behind its end")
            if not self._step():
                return

    def _head(self) -> bool:
        end = self._buffer.find(_END_OF_HEAD)
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise BadAnswer("its head is too large")
        if end < 0:
            return False
        lines = self._buffer[:end].split(b"\r\n")
        self._buffer = self._buffer[end + len(_END_OF_HEAD) :]
        status_line = _STATUS_LINE.fullmatch(lines[0])
        if status_line is None:
            raise BadAnswer("its status line is none")
        headers = [_field(line) for line in lines[1:]]
        self._frame(headers, int(status_line[1]))
        self.headers = tuple(headers)
        self.status = int(status_line[1])
        return True

    def _frame(self, headers: list[RawHeader], status: int) -> None:
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        self.is_last = any(
            name == b"connection" and value.lower() != b"keep-alive" for name, value in headers
        )
        if self._is_head or status in _BODILESS:
            self.is_done = True
        elif len(codings) + len(lengths) != 1:
            raise BadAnswer("its end is told twice, or not at all")
        elif codings:
            if codings[0].lower() != b"chunked":
                raise BadAnswer("its transfer coding is not known here")
            self._step = self._chunk_size
        elif not _LENGTH.fullmatch(lengths[0]):
            raise BadAnswer("its length is none")
        else:
            self._left = int(lengths[0])
            self._count(self._left)
            self._step = self._body
            self.is_done = self._left == 0

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._body_bytes_max:
            raise BadAnswer(f"it is larger than {self._body_bytes_max} bytes")

    def _take(self) -> None:
        part = self._buffer[: self._left]
        self._buffer = self._buffer[len(part) :]
        self._left -= len(part)
        self.parts.append(part)

    def _body(self) -> bool:
        self._take()
        self.is_done = self._left == 0
        return True

    def _line(self) -> bytes | None:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            if len(self._buffer) > _SIZE_LINE_BYTES_MAX:
                raise BadAnswer("a line between its chunks is too long")
            return None
        self._buffer = rest
        return line

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not _SIZE.fullmatch(line):
            raise BadAnswer("the size of a chunk is none")
        self._left = int(line, 16)
        self._count(self._left)
        self._step = self._chunk if self._left else self._last_line
        return True

    def _chunk(self) -> bool:
        self._take()
        if not self._left:
            self._step = self._chunk_end
        return True

    def _chunk_end(self) -> bool:
        line = self._line()
        if line:
            raise BadAnswer("a chunk is longer than it says")
        self._step = self._chunk_size if line is not None else self._step
        return line is not None

    def _last_line(self) -> bool:
        line = self._line()
        if line:
            raise BadAnswer("it has trailers")
        self.is_done = line is not None
        return self.is_done


def _field(line: bytes) -> RawHeader:
    # Most lines are those of the answer before; long ones are not kept, so that memory stays bounded.
    return _kept_field(line) if len(line) <= _KEPT_LINE_BYTES_MAX else _read_field(line)


def _read_field(line: bytes) -> RawHeader:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise BadAnswer("one of its headers is none")
    return field[1].lower(), field[2].rstrip(b" \t")


_kept_field = lru_cache(maxsize=_KEPT_LINES)(_read_field)
