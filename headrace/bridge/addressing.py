"""From a row of an outbox to a record of a topic: where it goes, and what it says to follow.

For one key the order of commits holds across the topics of an outbox, too: an event says by its stamp how
far the other topics had come in the partition of its key. So no batch has a key in two topics: the later
event would have to name what has no offset yet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.bridge.outboxtable import Left, decode_headers
from headrace.errors import DecodeError, MalformedStamp, RecordTooLarge
from headrace.events.envelope import (
    HEADER,
    Envelope,
    EnvelopeFormat,
    Headers,
    decode_envelope,
    encode_cloudevent,
    encode_envelope,
    place_id,
)
from headrace.events.position import Catalog, TopicPartition
from headrace.events.seen import Seen
from headrace.flow.sending import record_bytes
from headrace.flow.topic import Topic
from headrace.log.port import Outgoing, TopicInfo


class Addressing:
    """Makes records of rows, for one courier."""

    def __init__(
        self,
        topics: Mapping[str, Topic[Any, Any]],
        infos: Mapping[str, TopicInfo],
        catalog: Catalog,
        ends: Mapping[TopicPartition, int],
        *,
        name: str,
        record_bytes_max: int,
    ) -> None:
        self._topics = topics
        self._infos = infos
        self._catalog = catalog
        self._places = {
            name: [TopicPartition(name, number) for number in range(infos[name].partitions)]
            for name in topics
        }
        self._ends = dict(ends)
        """Behind what was published last in each partition."""
        self._name = name
        self._record_bytes_max = record_bytes_max

    def published(self, ends: Mapping[TopicPartition, int]) -> None:
        """Take in how far the topics are after a batch."""
        self._ends.update({place: end for place, end in ends.items() if place.topic in self._topics})

    def batch_of(self, rows: Sequence[Left]) -> Sequence[Left]:
        """The first rows that can be published together: of no key in two topics."""
        if len(self._topics) == 1:
            return rows
        topic_of: dict[bytes, str] = {}
        for at, row in enumerate(rows):
            if row.key is not None and topic_of.setdefault(row.key, row.topic) != row.topic:
                return rows[:at]
        return rows

    def record(self, row: Left) -> tuple[TopicPartition, Outgoing]:
        """Where an event goes, and as what. Raises: DecodeError, MalformedStamp, RecordTooLarge."""
        topic = self._topics.get(row.topic)
        if topic is None:
            raise DecodeError(f"the relay {self._name} does not know topic {row.topic}")
        place = self._places[row.topic][self._partition(topic, row)]
        headers = self._headers(topic, row, place.partition)
        size = record_bytes(row.key, row.value, headers)
        if size > self._record_bytes_max:
            raise RecordTooLarge(
                f"an event of {size} bytes is larger than the {self._record_bytes_max} allowed"
            )
        return place, (row.key, row.value, headers, row.created_ms)

    def _partition(self, topic: Topic[Any, Any], row: Left) -> int:
        partitions = self._infos[topic.name].partitions
        return row.id % partitions if row.key is None else topic.partitioner.place(row.key, partitions)

    def _headers(self, topic: Topic[Any, Any], row: Left, partition: int) -> Headers:
        try:
            headers = decode_headers(row.headers)
        except msgspec.MsgspecError as error:
            raise DecodeError(f"the headers of row {row.id} cannot be read: {error}") from error
        envelope = decode_envelope(headers)
        follows = self._follows(topic, row)
        if envelope is not None and not follows:
            return headers
        if envelope is None:
            # Whoever inserted it by hand gave it no identity: its place in the outbox is one.
            envelope = Envelope(place_id(self._name, 0, row.id), row.created_ms)
        if follows:
            try:
                seen = Seen.decode(envelope.stamp)
            except MalformedStamp as error:
                raise DecodeError(f"the stamp of row {row.id} cannot be read: {error.what}") from error
            envelope = msgspec.structs.replace(envelope, stamp=seen.merge(follows).encode())
        own = [(name, value) for name, value in headers if name != HEADER and not name.startswith("ce_")]
        if topic.envelope is EnvelopeFormat.COMPACT:
            return (*encode_envelope(envelope), *own)
        kind = dict(headers).get("ce_type", topic.name.encode()).decode()
        own = [(name, value) for name, value in own if name != "content-type"]
        return (*encode_cloudevent(envelope, source=f"/{self._name}", type_name=kind), *own)

    def _follows(self, topic: Topic[Any, Any], row: Left) -> Seen | None:
        """How far the other topics are where events of the same key lie; None for nothing to tell."""
        if row.key is None or len(self._topics) == 1:
            return None
        offsets: dict[bytes, int] = {}
        for name, other in self._topics.items():
            if other is topic:
                continue
            place = TopicPartition(name, other.partitioner.place(row.key, self._infos[name].partitions))
            if end := self._ends.get(place, 0):
                offsets[self._catalog.print_of(place)] = end
        return Seen(offsets) if offsets else None
