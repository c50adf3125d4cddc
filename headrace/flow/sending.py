"""Where `send` goes: into an agent's unit, a request's transaction, or a transaction of its own."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headrace.errors import DeclarationError, OutsideAgent, RecordTooLarge
from headrace.events.envelope import (
    Envelope,
    EnvelopeFormat,
    Headers,
    encode_cloudevent,
    encode_envelope,
    id_text,
)
from headrace.events.position import Position, TopicPartition
from headrace.log.port import Append, Outgoing

if TYPE_CHECKING:
    from headrace.flow.topic import Topic

_RECORD_OVERHEAD_BYTES = 64
_HEADER_OVERHEAD_BYTES = 4


class Sent(msgspec.Struct, eq=False, gc=False):
    """What `send` gives back: the event's id, and its position once it is durable."""

    event_id_raw: bytes
    _position: Position | None = None

    @property
    def event_id(self) -> str:
        """The event's id in its usual text form."""
        return id_text(self.event_id_raw)

    @property
    def position(self) -> Position:
        """The next offset behind the event. Raises: OutsideAgent while the transaction is not committed."""
        if self._position is None:
            raise OutsideAgent(
                "this event is not committed yet, so it has no position",
                hint="In an agent it never has one; a request's position is in its response, "
                "and in `async with app.sending() as sent` it is sent.position after the block.",
            )
        return self._position

    def settle(self, position: Position) -> None:
        """Note that the event is durable up to this position."""
        self._position = position


class Sender(Protocol):
    """What `Topic.send` finds in the context it is called from."""

    def key_in_hand(self) -> bytes | None:
        """The record key of the event in hand; None when there is none."""

    def send(
        self,
        topic: "Topic[Any, Any]",
        *,
        key: bytes | None,
        value: bytes | None,
        type_name: str,
        headers: Headers,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> Sent | Awaitable[Sent]:
        """Take an encoded event; what is to be awaited is so until it is durable. Raises: RecordTooLarge."""


active_sender: ContextVar[Sender] = ContextVar("active_sender")
"""Set in the context of agents, routes, timers and tasks."""


def current_sender() -> Sender:
    """Where events go from here. Raises: OutsideAgent when no worker runs."""
    sender = active_sender.get(None)
    if sender is None:
        raise OutsideAgent(
            "an event was sent outside of a running worker",
            hint="Send in an agent, route, timer or task, or with `headrace send`.",
        )
    return sender


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """How large a record is in the log, rounded up."""
    size = _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, content in headers:
        size += len(name) + len(content) + _HEADER_OVERHEAD_BYTES
    return size


class Outbox:
    """Encoded events by partition, in the order in which they were sent.

    Shape: `topic_partitions` tells how many partitions a topic has; `source` names the app in
    CloudEvents. An event without a key goes to `keyless_partition` modulo the topic's count.
    """

    __slots__ = ("_app", "_clock", "_lanes", "_partitions", "_record_bytes_max", "appends", "records")

    def __init__(
        self,
        app: str,
        topic_partitions: Mapping[str, int],
        *,
        record_bytes_max: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._partitions = topic_partitions
        self._record_bytes_max = record_bytes_max
        self._clock = clock
        self.appends: dict[TopicPartition, list[Outgoing]] = {}
        self._lanes: dict[tuple[str, int], tuple[TopicPartition, list[Outgoing]]] = {}
        """The same, found by a plain tuple: a named one takes longer to make than an event to put in."""
        self.records = 0

    def now_ms(self) -> int:
        """The time of an event that is sent now."""
        return int(self._clock() * 1000)

    def encoded(self, topic: "Topic[Any, Any]", envelope: Envelope, type_name: str) -> Headers:
        """An envelope in the format that the topic declares."""
        if topic.envelope is EnvelopeFormat.COMPACT:
            return encode_envelope(envelope)
        return encode_cloudevent(envelope, source=f"/{self._app}", type_name=type_name or topic.name)

    def add(
        self,
        topic: "Topic[Any, Any]",
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        time_ms: int,
        keyless_partition: int,
        partition: int | None = None,
    ) -> TopicPartition:
        """Put an event in, its envelope among the headers; where it lies now.

        Raises: RecordTooLarge, DeclarationError for a topic not declared on the app.
        """
        name = topic.name
        partitions = self._partitions.get(name)
        if partitions is None:
            raise DeclarationError(
                f"topic {topic.name} is not part of this app", hint="Declare it with app.topic(...)."
            )
        if partition is None:
            if key is None:
                partition = keyless_partition % partitions
            else:
                partition = topic.partitioner.place(key, partitions)
        elif not 0 <= partition < partitions:
            raise DeclarationError(f"topic {topic.name} has no partition {partition}, only {partitions}")
        if (size := record_bytes(key, value, headers)) > self._record_bytes_max:
            raise RecordTooLarge(
                f"an event of {size} bytes is larger than the {self._record_bytes_max} allowed",
                topic=topic.name,
                partition=partition,
            )
        place, records = self._lanes.get((name, partition)) or self._lane(name, partition)
        records.append((key, value, headers, time_ms))
        self.records += 1
        return place

    def put(self, topic: str, partition: int, record: Outgoing) -> None:
        """Put a record in that is taken back by nobody."""
        _, records = self._lane(topic, partition % self._partitions[topic])
        records.append(record)
        self.records += 1

    def _lane(self, topic: str, partition: int) -> tuple[TopicPartition, list[Outgoing]]:
        place = TopicPartition(topic, partition)
        lane = self._lanes[topic, partition] = (place, self.appends.setdefault(place, []))
        return lane

    def take_back(self, place: TopicPartition) -> None:
        """Remove the last record of a place."""
        self.appends[place].pop()
        self.records -= 1

    def to_append(self) -> list[Append]:
        """The events as the log's writer takes them."""
        return [
            Append(place.topic, place.partition, records)
            for place, records in self.appends.items()
            if records
        ]
