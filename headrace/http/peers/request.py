"""What another worker is asked, as bytes on the wire: one request, and never more than one."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headrace.http.peers.figures import HopKind
from headrace.http.problems import RawHeader

SAFE_METHODS = frozenset({"GET", "HEAD"})
_METHOD = re.compile(r"[A-Z]{1,20}")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Unsendable(ValueError):
    """What is to be sent would not be one request on the wire."""


class Request(NamedTuple):
    """What another worker is asked."""

    method: str
    target: bytes
    """Path and query."""
    headers: Sequence[RawHeader] = ()
    body: bytes = b""
    kind: HopKind = HopKind.REQUEST

    def raw(self, host: str, *more: RawHeader) -> bytes:
        """The request on the wire. Raises: Unsendable."""
        headers = [*self.headers, *more]
        if self.body or self.method not in SAFE_METHODS:
            headers.append((b"content-length", b"%d" % len(self.body)))
        return _head(self.method, self.target, host, headers) + self.body


def _head(method: str, target: bytes, host: str, headers: Iterable[RawHeader]) -> bytes:
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise Unsendable("method or target")
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), target, host.encode())]
    for name, value in headers:
        if not _VALUE.fullmatch(value):
            raise Unsendable(name.decode("latin-1"))
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)
