"""The fetch request that names topics by id, so that a recreated topic is never read as the old one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from headrace.log.kafka.metadata import Uuid, topic_id_bytes, topic_id_text

_CONSUMER = -1
_NO_EPOCH = -1
_NO_SESSION, _FINAL_EPOCH = 0, -1
_READ_COMMITTED = 1


class Wanted(NamedTuple):
    """Where to read on in one partition."""

    topic_id: str
    partition: int
    offset: int


class Fetched(NamedTuple):
    """What a broker answers for one partition."""

    topic_id: str
    partition: int
    error_code: int
    high_watermark: int
    aborted: Sequence[tuple[int, int]]
    """Producer id and first offset of each aborted transaction in reach."""
    data: bytes


class _FetchResponseV13(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("high_watermark", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted_transactions",
                            CompactArray(
                                ("producer_id", Int64), ("first_offset", Int64), ("tags", TaggedFields)
                            ),
                        ),
                        ("preferred_read_replica", Int32),
                        ("records", CompactBytes),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class FetchRequestV13(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """A fetch request as it goes on the wire."""

    FLEXIBLE_VERSION = True
    API_KEY = 1
    API_VERSION = 13
    RESPONSE_TYPE = _FetchResponseV13
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("partition_max_bytes", Int32),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        (
            "forgotten_topics_data",
            CompactArray(("topic_id", Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("rack_id", CompactString()),
        ("tags", TaggedFields),
    )


class FetchRequest(Request[FetchRequestV13]):  # type: ignore[misc]  # aiokafka carries no types
    """Committed records of some partitions, waiting for the first of them to come."""

    API_KEY = 1

    def __init__(
        self, wanted: Sequence[Wanted], *, wait_ms: int, bytes_max: int, partition_bytes_max: int
    ) -> None:
        self._wanted = wanted
        self._bounds = (wait_ms, bytes_max, partition_bytes_max)

    def build(self, request_struct_class: type[FetchRequestV13]) -> FetchRequestV13:
        """The request as it goes on the wire: a full fetch, outside of any fetch session."""
        wait_ms, bytes_max, partition_bytes_max = self._bounds
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for topic_id, partition, offset in self._wanted:
            place: tuple[Any, ...] = (partition, _NO_EPOCH, offset, _NO_EPOCH, -1, partition_bytes_max, {})
            topics.setdefault(topic_id, []).append(place)
        named: list[tuple[Any, ...]] = [
            (topic_id_bytes(topic_id), places, {}) for topic_id, places in topics.items()
        ]
        bounds = (_CONSUMER, wait_ms, 1, bytes_max, _READ_COMMITTED)
        return request_struct_class(*bounds, _NO_SESSION, _FINAL_EPOCH, named, [], "", {})


def read_fetched(response: _FetchResponseV13) -> tuple[int, list[Fetched]]:
    """The error of the whole request, and the answers by partition."""
    fields = response.__dict__
    return fields["error_code"], [
        Fetched(
            topic_id_text(topic_id),
            partition,
            error_code,
            high_watermark,
            [(producer_id, first_offset) for producer_id, first_offset, _ in aborted or ()],
            data or b"",
        )
        for topic_id, partitions, _ in fields["topics"]
        for partition, error_code, high_watermark, _, _, aborted, _, data, _ in partitions
    ]
