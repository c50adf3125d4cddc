"""Kafka's frames, as far as a proxy between client and broker must understand them."""

import struct
from asyncio import IncompleteReadError, StreamReader
from enum import IntEnum
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.protocol.coordination import FindCoordinatorRequest_v0, FindCoordinatorRequest_v1
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
)

from headrace.log.kafka.fetching import FetchRequestV13
from headrace.log.kafka.metadata import MetadataResponseV10
from headrace.log.kafka.transactions import EndRequestV5, ProduceRequestV12

Address = tuple[str, int]


class Api(IntEnum):
    """The kinds of requests that a script can name."""

    CONNECT = -1
    """No request: the connection itself."""
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    FIND_COORDINATOR = 10
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    END_TXN = 26
    OTHER = 999


class Head(NamedTuple):
    """What stands in front of every request."""

    api: Api
    version: int
    correlation_id: int


_STRUCTS: dict[tuple[int, int], Any] = {
    (each.API_KEY, each.API_VERSION): each
    for each in (
        FindCoordinatorRequest_v0,
        FindCoordinatorRequest_v1,
        ProduceRequest_v7,
        AddPartitionsToTxnRequest_v0,
        EndTxnRequest_v0,
        InitProducerIdRequest_v0,
        FetchRequestV13,
        ProduceRequestV12,
        EndRequestV5,
    )
}
_KNOWN = frozenset(Api)
_FLEXIBLE_PRODUCE, _FLEXIBLE_END = 9, 5


async def read_frame(reader: StreamReader) -> bytes | None:
    """The next frame without its size; None when the other side is gone."""
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except (IncompleteReadError, OSError):
        return None


def framed(data: bytes) -> bytes:
    """A frame as it goes on the wire."""
    return struct.pack(">i", len(data)) + data


def read_head(frame: bytes) -> Head:
    """Kind, version and number of a request."""
    api, version, correlation_id = struct.unpack_from(">hhi", frame)
    return Head(Api(api) if api in _KNOWN else Api.OTHER, version, correlation_id)


def read_correlation_id(frame: bytes) -> int:
    """Which request this is the reply to."""
    (correlation_id,) = struct.unpack_from(">i", frame)
    return int(correlation_id)


def brokers_of(reply: bytes) -> list[Address]:
    """The addresses in a reply to a metadata request of version 10."""
    fields = MetadataResponseV10.decode(BytesIO(reply[5:])).__dict__
    return [(host, port) for _, host, port, *_ in fields["brokers"]]


def with_brokers(reply: bytes, places: dict[Address, Address]) -> bytes:
    """The same reply, with each address replaced, and without the brokers that have no place."""
    fields = MetadataResponseV10.decode(BytesIO(reply[5:])).__dict__
    brokers = [
        (node, *places[host, port], *more)
        for node, host, port, *more in fields["brokers"]
        if (host, port) in places
    ]
    values = [brokers if name == "brokers" else fields[name] for name in MetadataResponseV10.SCHEMA.names]
    return reply[:5] + bytes(MetadataResponseV10(*values).encode())


def refusal(frame: bytes, code: int) -> bytes:
    """A broker's answer to this request, with an error code in every place that has one."""
    head = read_head(frame)
    kind = _STRUCTS[head.api, head.version]
    (name_bytes,) = struct.unpack_from(">h", frame, 8)
    asked = kind.decode(BytesIO(frame[10 + max(name_bytes, 0) + kind.FLEXIBLE_VERSION :]))
    answer = kind.RESPONSE_TYPE(*_refused(head, asked, code))
    tags = b"\0" if kind.FLEXIBLE_VERSION else b""
    return struct.pack(">i", head.correlation_id) + tags + bytes(answer.encode())


def _refused(head: Head, asked: Any, code: int) -> tuple[Any, ...]:
    match head.api:
        case Api.PRODUCE if head.version >= _FLEXIBLE_PRODUCE:
            batches = [(topic, [each[0] for each in parts]) for topic, parts, _ in asked.topics]
            return (
                [(topic, [_refused_batch(p, code) for p in parts], {}) for topic, parts in batches],
                0,
                {},
            )
        case Api.PRODUCE:
            batches = [(topic, [each[0] for each in parts]) for topic, parts in asked.topics]
            return ([(topic, [(p, code, -1, -1, -1) for p in parts]) for topic, parts in batches], 0)
        case Api.ADD_PARTITIONS:
            return (0, [(topic, [(each, code) for each in parts]) for topic, parts in asked.topics])
        case Api.FETCH:
            wanted = [(topic, [each[0] for each in parts]) for topic, parts, _ in asked.topics]
            return (0, 0, 0, [(topic, [_unread(p, code) for p in parts], {}) for topic, parts in wanted], {})
        case Api.INIT_PRODUCER_ID:
            return (0, code, -1, -1)
        case Api.END_TXN:
            return (0, code, -1, -1, {}) if head.version >= _FLEXIBLE_END else (0, code)
        case Api.FIND_COORDINATOR:
            return (code, -1, "", -1) if head.version == 0 else (0, code, None, -1, "", -1)
        case _:
            raise AssertionError(f"no refusal is known for {head}")


def _refused_batch(partition: int, code: int) -> tuple[Any, ...]:
    return (partition, code, -1, -1, -1, [], None, {})


def _unread(partition: int, code: int) -> tuple[Any, ...]:
    return (partition, code, -1, -1, -1, [], -1, None, {})
