"""What the brokers say of themselves: nodes, leaders, and the ids of topics."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


class TopicView(NamedTuple):
    """A topic as the brokers describe it."""

    error_code: int
    topic_id: str
    is_internal: bool
    leaders: Mapping[int, int]
    """Partition to the node that leads it; -1: none at the moment."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The cluster at one moment, with the topics that were asked for."""

    cluster_id: str
    controller: int
    brokers: Mapping[int, tuple[str, int]]
    """Node to host and port."""
    topics: Mapping[str, TopicView]


class Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka carries no types
    """Sixteen bytes on the wire."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """The bytes as they are."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """The next sixteen bytes."""
        return data.read(16)


class MetadataResponseV10(Response):  # type: ignore[misc]  # aiokafka carries no types
    """Version 10: the first that names topic ids."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """Version 10, which aiokafka does not have."""

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = MetadataResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class MetadataRequest(Request[MetadataRequestV10]):  # type: ignore[misc]  # aiokafka carries no types
    """Asks for some topics, or (None) for all; never creates one by asking."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[MetadataRequestV10]) -> MetadataRequestV10:
        """The request as it goes on the wire."""
        named: list[tuple[Any, ...]] | None = None
        if self._topics is not None:
            named = [(bytes(16), topic, {}) for topic in self._topics]
        return request_struct_class(named, False, False, False, {})


def read_metadata(response: MetadataResponseV10) -> Metadata:
    """The answer of a broker, as a value."""
    fields = response.__dict__
    topics = {}
    for error_code, name, topic_id, is_internal, partitions, *_ in fields["topics"]:
        leaders = {partition: leader for _, partition, leader, *_ in partitions}
        topics[name] = TopicView(error_code, topic_id_text(topic_id), is_internal, leaders)
    brokers = {node: (host, port) for node, host, port, *_ in fields["brokers"]}
    return Metadata(fields["cluster_id"] or "", fields["controller_id"], brokers, topics)


def topic_id_text(topic_id: bytes) -> str:
    """A topic id in the form that Kafka's own tools show."""
    return base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()


def topic_id_bytes(text: str) -> bytes:
    """A topic id in the form of the wire."""
    return base64.urlsafe_b64decode(text + "==")
