"""What is kept of a request that names itself by an Idempotency-Key: what it was, and its answer."""

from typing import NamedTuple

import msgspec

from headrace.errors import RowMismatch
from headrace.flow.group import CHANGELOG_DELETE_RETENTION_MS
from headrace.log.port import TopicSpec

NAME = "requests"
"""Of the group that the partitions of recorded requests form: its stores and transactional ids."""
PARTITIONS = 8
KEPT_MS = 24 * 3_600_000
"""How long an answer is repeated; after that its key is free again."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer of an endpoint."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """As they were sent, Headrace-Position included, but for those that describe the transfer."""
    body: bytes


class RecordedRequest(msgspec.Struct, frozen=True, array_like=True):
    """A record of `<app>.requests`; its key is the request's own."""

    recorded_ms: int
    """When, by the clock of the worker that answered (`Hours`); first, so that expiry reads no further."""
    fingerprint: bytes
    """Of the request: another one under the same key is refused."""
    answer: Answer

    def is_expired(self, now_ms: int) -> bool:
        """Whether the key is free again."""
        return self.recorded_ms + KEPT_MS <= now_ms


class RequestGroup(NamedTuple):
    """The partitions of recorded requests as the group of workers shares them out."""

    app: str
    partitions: int
    name: str = NAME

    @property
    def changelog(self) -> str:
        """The topic under whose name the partitions are shared out."""
        return requests_name(self.app)


def requests_name(app: str) -> str:
    """The topic of an app's recorded requests."""
    return f"{app}.{NAME}"


def requests_spec(app: str, partitions: int | None = PARTITIONS) -> TopicSpec:
    """The topic as it must be: answers that have expired are deleted by tombstones."""
    return TopicSpec(
        name=requests_name(app),
        partitions=partitions,
        is_compacted=True,
        delete_retention_ms=CHANGELOG_DELETE_RETENTION_MS,
    )


_FOREIGN = "Something else writes into the topic of recorded requests; give it back to headrace alone."

encode_request = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RecordedRequest).decode
_decode_time = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, msgspec.Raw]).decode


def decode_request(raw: bytes) -> RecordedRequest:
    """A request as it was recorded. Raises: RowMismatch for what this version does not write."""
    try:
        return _decode(raw)
    except msgspec.MsgspecError as error:
        raise RowMismatch(f"a recorded request cannot be read: {error}", hint=_FOREIGN) from error


def is_expired(raw: bytes, now_ms: int) -> bool:
    """Whether a recorded request may be forgotten, without a look at its answer."""
    try:
        return _decode_time(raw)[0] + KEPT_MS <= now_ms
    except msgspec.MsgspecError:
        return False
