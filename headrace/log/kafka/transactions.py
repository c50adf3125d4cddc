"""The requests of a transaction, in the two ways in which clusters end one.

Since transaction version 2 (KIP-890, Kafka 4.0) every transaction has an epoch of its own, which the
answer to EndTxn tells, and a partition is part of the transaction as soon as something is produced to it.
"""

from collections.abc import Sequence
from enum import IntEnum
from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.produce import ProduceRequest as _ProduceByOwner
from aiokafka.protocol.transaction import EndTxnRequest as _EndByOwner
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_FEATURE = "transaction.version"
_FINALIZED_FEATURES = 2
"""Tag of the field that lists them."""
_CLIENT = ("headrace", "0")
_ALL_REPLICAS = -1


class Scheme(IntEnum):
    """How the brokers tell one transaction of a producer from the next; the value is the feature's level."""

    EPOCH_PER_OWNER = 0
    """By nothing: all transactions of an owner share its epoch, and each names its partitions first."""
    EPOCH_PER_TRANSACTION = 2
    """By the epoch, so that what comes late of an older transaction is refused."""


class _FeaturesResponseV3(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "api_versions",
            CompactArray(("key", Int16), ("min", Int16), ("max", Int16), ("tags", TaggedFields)),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )


class _FeaturesRequestV3(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """ApiVersions: the first version that tells the features of the cluster."""

    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _FeaturesResponseV3
    SCHEMA = Schema(("name", CompactString()), ("version", CompactString()), ("tags", TaggedFields))

    def parse_response_header(self, read_buffer: BytesIO) -> Any:
        """Its answers alone have no tags in the header, so that any client can read them."""
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesRequest(Request[_FeaturesRequestV3]):  # type: ignore[misc]  # aiokafka carries no types
    """Asks what the cluster has agreed to speak."""

    API_KEY = 18

    def build(self, request_struct_class: type[_FeaturesRequestV3]) -> _FeaturesRequestV3:
        """The request as it goes on the wire."""
        return request_struct_class(*_CLIENT, {})


class _ProduceResponseV12(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", CompactString()),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("offset", Int64),
                        ("timestamp", Int64),
                        ("log_start_offset", Int64),
                        (
                            "record_errors",
                            CompactArray(
                                ("index", Int32), ("message", CompactString()), ("tags", TaggedFields)
                            ),
                        ),
                        ("error_message", CompactString()),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )


class ProduceRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """The first version that also makes its partitions part of the transaction."""

    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = _ProduceResponseV12
    SCHEMA = Schema(
        ("transactional_id", CompactString()),
        ("required_acks", Int16),
        ("timeout", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString()),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("messages", CompactBytes), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


Batches = Sequence[tuple[str, Sequence[tuple[int, bytes]]]]


class _Produce(Request[ProduceRequestV12]):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 0

    def __init__(self, transactional_id: str, timeout_ms: int, topics: Batches) -> None:
        self._fields = (transactional_id, _ALL_REPLICAS, timeout_ms)
        self._topics = topics

    def build(self, request_struct_class: type[ProduceRequestV12]) -> ProduceRequestV12:
        topics: list[Any] = [
            (topic, [(*each, {}) for each in partitions], {}) for topic, partitions in self._topics
        ]
        return request_struct_class(*self._fields, topics, {})


class _EndResponseV5(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class EndRequestV5(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """The first version whose answer names the epoch of the next transaction."""

    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = _EndResponseV5
    SCHEMA = Schema(
        ("transactional_id", CompactString()),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("transaction_result", Boolean),
        ("tags", TaggedFields),
    )


class _End(Request[EndRequestV5]):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 26

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[EndRequestV5]) -> EndRequestV5:
        return request_struct_class(*self._fields, {})


def scheme_of(response: _FeaturesResponseV3) -> Scheme:
    """The way of a cluster with these features."""
    listed = response.__dict__["tags"].get(_FINALIZED_FEATURES)
    if listed is None:
        return Scheme.EPOCH_PER_OWNER
    schema = CompactArray(("name", CompactString()), ("max", Int16), ("min", Int16), ("tags", TaggedFields))
    levels = {name: level for name, level, *_ in schema.decode(BytesIO(listed))}
    is_newer = levels.get(_FEATURE, 0) >= Scheme.EPOCH_PER_TRANSACTION
    return Scheme.EPOCH_PER_TRANSACTION if is_newer else Scheme.EPOCH_PER_OWNER


def produce_request(scheme: Scheme, transactional_id: str, timeout_ms: int, topics: Batches) -> Any:
    """Append these batches, once all replicas in sync have them."""
    if scheme is Scheme.EPOCH_PER_TRANSACTION:
        return _Produce(transactional_id, timeout_ms, topics)
    return _ProduceByOwner(transactional_id, _ALL_REPLICAS, timeout_ms, topics)


def end_request(
    scheme: Scheme, transactional_id: str, producer_id: int, epoch: int, *, is_commit: bool
) -> Any:
    """Commit or abort the transaction."""
    kind = _End if scheme is Scheme.EPOCH_PER_TRANSACTION else _EndByOwner
    return kind(transactional_id, producer_id, epoch, is_commit)
