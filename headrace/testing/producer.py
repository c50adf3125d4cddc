"""Sends what a test sends: a producer of its own, whom no crash of a worker touches."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.events.envelope import Envelope, Headers
from headrace.events.position import Position, TopicPartition
from headrace.flow.sending import Outbox, Sent, active_sender
from headrace.flow.topic import Topic
from headrace.log.port import Append
from headrace.testing.journal import Journal
from headrace.testing.virtual_clock import VirtualClock

_ID = "harness"
_RECORD_BYTES_MAX = 2**31


class Producer:
    """Collects events and commits them in one transaction.

    Shape: event ids are hashes of a running number, so that a story told again has the same ids.
    """

    def __init__(self, journal: Journal, clock: VirtualClock) -> None:
        self._journal = journal
        self._clock = clock
        self._epoch = journal.begin_epoch(_ID)
        self._sent: list[Sent] = []
        self._events = 0
        self._sizes: dict[str, int] = {}
        self._outbox = self._new_outbox()

    def _new_outbox(self) -> Outbox:
        return Outbox(_ID, self._sizes, record_bytes_max=_RECORD_BYTES_MAX, clock=self._clock.time)

    async def add(self, topic: Topic[Any, Any], event: Any, key: Any, headers: Mapping[str, bytes]) -> Sent:
        """Collect an event. Raises: UnencodableValue, and DeclarationError for one that needs a key."""
        self._sizes.update({name: topic.info.partitions for name, topic in self._journal.topics.items()})
        token = active_sender.set(self)
        try:
            return await topic.send(value=event, key=key, headers=headers)
        finally:
            active_sender.reset(token)

    def add_raw(
        self, topic: Topic[Any, Any], key: bytes | None, value: bytes | None, headers: Headers
    ) -> None:
        """Collect a record as it is; without a key it goes to partition 0."""
        partitions = self._journal.topics[topic.name].info.partitions
        partition = 0 if key is None else topic.partitioner.place(key, partitions)
        record = (key, value, headers, int(self._clock.time() * 1000))
        self._outbox.appends.setdefault(TopicPartition(topic.name, partition), []).append(record)

    def commit(self) -> None:
        """Append what was collected."""
        outbox, self._outbox = self._outbox, self._new_outbox()
        sent, self._sent = self._sent, []
        appends: Sequence[Append] = outbox.to_append()
        if not appends:
            return
        behind = self._journal.commit(_ID, self._epoch, appends)
        for each in sent:
            each.settle(Position(behind))

    # --- what `Topic.send` finds (flow.sending.Sender)

    def key_in_hand(self) -> bytes | None:
        """There is no event in hand here."""
        return None

    def send(
        self,
        topic: Topic[Any, Any],
        *,
        key: bytes | None,
        value: bytes | None,
        type_name: str,
        headers: Headers,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> Sent:
        """Collect an encoded event."""
        self._events += 1
        event_id = hashlib.blake2b(str(self._events).encode(), digest_size=16).digest()
        time_ms = self._outbox.now_ms()
        self._outbox.add(
            topic,
            key,
            value,
            (*self._outbox.encoded(topic, Envelope(event_id, time_ms), type_name), *headers),
            partition=partition,
            keyless_partition=self._events,
            time_ms=time_ms if timestamp_ms is None else timestamp_ms,
        )
        sent = Sent(event_id)
        self._sent.append(sent)
        return sent
