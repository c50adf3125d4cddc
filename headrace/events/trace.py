"""W3C trace context: read from headers as the recommendation says, and written on.

What is malformed is ignored: a broken traceparent with its tracestate, a broken tracestate alone.
"""

import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from headrace.events.envelope import Headers

PARENT, STATE = "traceparent", "tracestate"
STATE_BYTES_MAX = 512
"""As much tracestate as everybody must carry on; of more, whole entries are dropped."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16
_MEMBERS_MAX = 32
_LONG_MEMBER_BYTES = 128
_MEMBER = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


class TraceContext(NamedTuple):
    """Where in which trace something was sent."""

    parent: bytes
    """A valid traceparent."""
    state: bytes = b""
    """A valid tracestate; empty: none."""

    @property
    def trace_id(self) -> str:
        """The trace, 32 hex digits."""
        return self.parent[3:35].decode()

    @property
    def span_id(self) -> str:
        """The span at the sender, 16 hex digits."""
        return self.parent[36:52].decode()

    @property
    def is_sampled(self) -> bool:
        """Whether the sender records this trace."""
        return bool(int(self.parent[53:55], 16) & _SAMPLED)

    def headers(self) -> Headers:
        """The context as record headers."""
        if self.state:
            return ((PARENT, self.parent), (STATE, self.state))
        return ((PARENT, self.parent),)


active_trace: ContextVar[TraceContext | None] = ContextVar("active_trace", default=None)
"""The trace of the request that is being answered."""


def trace_of_request(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The trace context in the headers of an HTTP request, which come in lower case."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    return parse_trace(parents, states) if parents else None


def trace_of(headers: Headers) -> TraceContext | None:
    """The trace context in these headers; None when there is none, or none that is valid."""
    for name, _ in headers:
        if name == PARENT:
            break
    else:
        return None
    parents = [value for name, value in headers if name == PARENT]
    return parse_trace(parents, [value for name, value in headers if name == STATE])


def parse_trace(parents: Sequence[bytes], states: Sequence[bytes]) -> TraceContext | None:
    """The trace context in the values of these header fields, in wire order."""
    if len(parents) != 1:
        return None
    parent = _parent(parents[0].strip(b" \t"))
    return None if parent is None else TraceContext(parent, _state(b",".join(states)))


def _parent(value: bytes) -> bytes | None:
    match = _PARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or trace_id == _NO_TRACE or parent_id == _NO_PARENT:
        return None
    if version == b"00":
        return None if more else value
    # A later version: what this one knows of it, written as this one.
    return b"00-%b-%b-%02x" % (trace_id, parent_id, int(flags, 16) & _SAMPLED)


def _state(value: bytes) -> bytes:
    members = [stripped for member in value.split(b",") if (stripped := member.strip(b" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match}
    if len(members) > _MEMBERS_MAX or len(keys) < len(members):
        return b""
    return b",".join(_fitting(members))


def _fitting(members: list[bytes]) -> list[bytes]:
    """The members without those that do not fit: long ones go first, then the last ones."""
    kept = list(members)
    while sum(map(len, kept)) + len(kept) - 1 > STATE_BYTES_MAX:
        long = [member for member in kept if len(member) > _LONG_MEMBER_BYTES]
        kept.remove(long[-1] if long else kept[-1])
    return kept
