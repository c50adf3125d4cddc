"""What is sent outside of agents: requests, timer ticks and tasks, grouped into transactions."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace.errors import CommitUnknown, HeadraceError, WorkerStopping
from headrace.events.envelope import Envelope, Headers, fresh_event_id
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.sending import Outbox, Sent, active_sender
from headrace.flow.topic import Topic
from headrace.flow.tracing import sent_by_request
from headrace.flow.witness import Witness
from headrace.histogram import Histogram
from headrace.log.port import Append, Log, Outgoing, TopicInfo, Writer, catalog

if TYPE_CHECKING:
    from headrace.flow.spans import Spans


class Gate(Protocol):
    """Through which a request or tick sends: the worker's own writer, or one that records the request."""

    @property
    def spans(self) -> "Spans | None": ...
    def outbox(self) -> Outbox:
        """An empty outbox for one request or tick."""

    def next_keyless(self) -> int:
        """Spreads events without a key over the partitions, one after the other."""

    async def commit(self, outbox: Outbox) -> Position:
        """The next offsets behind these events, once they are durable and visible. Raises: LogError."""


@dataclass(slots=True)
class _Waiting:
    outbox: Outbox
    done: asyncio.Future[Position]


class Outgate:
    """The worker's own writer; what waits while one transaction commits is the next transaction.

    An error of one transaction reaches everybody whose events were in it; the writer is then
    opened anew, which fences the failed one.
    """

    def __init__(
        self,
        app: str,
        instance: str,
        log: Log,
        topics: Mapping[str, TopicInfo],
        *,
        record_bytes_max: int,
        spans: "Spans | None" = None,
    ) -> None:
        self._spans = spans
        self.transactions = 0
        """Committed transactions."""
        self.events = 0
        """Events in them."""
        self.sent: dict[str, int] = defaultdict(int)
        """The same by topic."""
        self.commit_time = Histogram()
        self._app = app
        self._transactional_id = f"{app}-worker-{instance}"
        self._log = log
        self._topics = topics
        self._partitions = {name: info.partitions for name, info in topics.items()}
        self._record_bytes_max = record_bytes_max
        self._waiting: list[_Waiting] = []
        self._has_waiting = asyncio.Event()
        self._is_open = True
        self._keyless = 0

    async def run(self) -> None:
        """Commit what is sent, until cancelled.

        Cancel: what waits gets WorkerStopping, what is being committed CommitUnknown.
        """
        writer: Writer | None = None
        try:
            while True:
                await self._has_waiting.wait()
                self._has_waiting.clear()
                batch, self._waiting = self._waiting, []
                try:
                    if writer is None:
                        writer = await self._log.writer(self._transactional_id)
                    await self._commit(writer, batch)
                except HeadraceError as error:
                    self._fail(batch, error)
                    if writer is not None:
                        await writer.close()
                        writer = None
                except asyncio.CancelledError:
                    self._fail(batch, WorkerStopping("the worker stopped before this was sent"))
                    raise
        finally:
            self._is_open = False
            self._fail(self._waiting, WorkerStopping("the worker stopped before this was sent"))
            if writer is not None:
                await writer.close()

    async def _commit(self, writer: Writer, batch: list[_Waiting]) -> None:
        merged: dict[TopicPartition, list[Outgoing]] = {}
        for waiting in batch:
            for place, records in waiting.outbox.appends.items():
                merged.setdefault(place, []).extend(records)
        began = time.perf_counter()
        try:
            offsets = await writer.commit([Append(*place, records) for place, records in merged.items()])
        except asyncio.CancelledError:
            self._fail(batch, CommitUnknown("the worker stopped while this was being sent"))
            raise
        self.commit_time.add(time.perf_counter() - began)
        self.transactions += 1
        for place, records in merged.items():
            self.events += len(records)
            self.sent[place.topic] += len(records)
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(Position({place: offsets[place] for place in waiting.outbox.appends}))

    @staticmethod
    def _fail(batch: list[_Waiting], error: HeadraceError) -> None:
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_exception(error)

    async def commit(self, outbox: Outbox) -> Position:
        """The next offsets behind these events, once they are durable and visible.

        Cancel: the events may still be committed. Raises: LogError.
        """
        if not outbox.records:
            return Position()
        if not self._is_open:
            raise WorkerStopping("the worker is stopping and sends nothing any more")
        waiting = _Waiting(outbox, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._has_waiting.set()
        return await waiting.done

    @property
    def spans(self) -> "Spans | None":
        """Where traces are recorded."""
        return self._spans

    def outbox(self) -> Outbox:
        """An empty outbox for one request or tick."""
        return Outbox(self._app, self._partitions, record_bytes_max=self._record_bytes_max)

    def next_keyless(self) -> int:
        """Spreads events without a key over the partitions, one after the other."""
        self._keyless += 1
        return self._keyless

    def seen(self, position: Position) -> Seen:
        """What whoever has sent up to here has seen by it."""
        return catalog(self._log, self._topics).seen(position) if position else NOTHING_SEEN

    @asynccontextmanager
    async def sending(
        self, gate: Gate | None = None, witness: Witness | None = None
    ) -> AsyncIterator["SendScope"]:
        """A scope whose events are one transaction, committed when the block ends without an error.

        They go through `gate`, or else with whatever else waits for this worker's own writer, and
        are stamped with what the witness has seen by then.
        """
        scope = SendScope(gate or self, witness)
        token = active_sender.set(scope)
        try:
            yield scope
        finally:
            active_sender.reset(token)
        await scope.commit()


class SendScope:
    """One request or tick: collects events until its end."""

    def __init__(self, gate: Gate, witness: Witness | None = None) -> None:
        self.witness = witness or Witness()
        """What it has seen; events are stamped with it."""
        self._gate = gate
        self._outbox = gate.outbox()
        self._sent: list[Sent] = []
        self.position = Position()
        """Next offsets behind what was sent; empty before the commit."""

    @property
    def seen(self) -> Seen:
        """What it has brought along and read, for the stamps of what it sends."""
        return self.witness.seen

    def saw(self, seen: Seen) -> None:
        """Note what else it has seen; what is sent from here on says so."""
        self.witness.saw(seen)

    def key_in_hand(self) -> bytes | None:
        """There is no event in hand here."""
        return None

    async def send(self, topic: Topic[Any, Any], **event: Any) -> Sent:
        """Collect an event for the transaction at the end of the scope. Raises: RecordTooLarge."""
        sent = Sent(_add(self._gate, self._outbox, topic, self.witness.stamp, **event))
        self._sent.append(sent)
        return sent

    async def commit(self) -> None:
        """Send what was collected. Raises: LogError."""
        self.position = await self._gate.commit(self._outbox)
        for sent in self._sent:
            sent.settle(self.position)


class DirectSender:
    """Sends each event in a transaction of its own; for tasks, which have no end to commit at."""

    def __init__(self, gate: Outgate) -> None:
        self.witness = Witness()
        """What the task has read and sent; events are stamped with it."""
        self._gate = gate

    def key_in_hand(self) -> bytes | None:
        """There is no event in hand here."""
        return None

    async def send(self, topic: Topic[Any, Any], **event: Any) -> Sent:
        """Send an event; it is durable and visible when this returns. Raises: LogError, RecordTooLarge."""
        outbox = self._gate.outbox()
        sent = Sent(_add(self._gate, outbox, topic, self.witness.stamp, **event))
        position = await self._gate.commit(outbox)
        self.witness.saw(self._gate.seen(position))
        sent.settle(position)
        return sent


def _add(
    gate: Gate,
    outbox: Outbox,
    topic: Topic[Any, Any],
    stamp: bytes,
    *,
    key: bytes | None,
    value: bytes | None,
    type_name: str,
    headers: Headers,
    partition: int | None,
    timestamp_ms: int | None,
) -> bytes:
    event_id, time_ms = fresh_event_id(), outbox.now_ms()
    envelope = Envelope(event_id, time_ms, stamp=stamp)
    outbox.add(
        topic,
        key,
        value,
        (
            *outbox.encoded(topic, envelope, type_name),
            *sent_by_request(gate.spans, topic.name, headers),
        ),
        partition=partition,
        keyless_partition=gate.next_keyless() if key is None else 0,
        time_ms=time_ms if timestamp_ms is None else timestamp_ms,
    )
    return event_id
