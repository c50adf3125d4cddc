"""Where a request with an Idempotency-Key is taken to: the desk of its key's partition."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headrace.errors import KeyReused, StillRecovering
from headrace.events.partitioner import Partitioner
from headrace.events.position import Position
from headrace.flow.figures import RequestFigures
from headrace.flow.outgate import Outgate
from headrace.flow.requests.answer import Answer, RequestGroup
from headrace.flow.requests.desk import AnswerOf, Desk, InHand
from headrace.flow.sending import Outbox

if TYPE_CHECKING:
    from headrace.flow.keeper import Begin
    from headrace.flow.spans import Spans
    from headrace.flow.worksite import Worksite


class Claim:
    """A request with a key, by the worker that owns the key; what its scope sends goes through here."""

    def __init__(self, desk: Desk, key: bytes, in_hand: InHand, gate: Outgate) -> None:
        self.answer: AnswerOf | None = None
        """What is recorded with what was sent; None: the endpoint failed, so that nothing is sent."""
        self._desk = desk
        self._key = key
        self._in_hand = in_hand
        self._gate = gate

    @property
    def recorded(self) -> Answer | None:
        """The answer that is to be repeated; None: this is the first request of its key."""
        return self._in_hand.recorded.answer if self._in_hand.recorded else None

    @property
    def spans(self) -> "Spans | None":
        """Where traces are recorded."""
        return self._gate.spans

    def outbox(self) -> Outbox:
        """An empty outbox for what the request sends."""
        return self._gate.outbox()

    def next_keyless(self) -> int:
        """Spreads events without a key over the partitions, one after the other."""
        return self._gate.next_keyless()

    async def commit(self, outbox: Outbox) -> Position:
        """The next offsets behind these events, once they are durable together with the answer.

        Cancel: both are committed all the same. Raises: LogError, RecordTooLarge, NotOwner.
        """
        if self.answer is None:
            return Position()
        return await self._desk.submit(self._key, self._in_hand, outbox, self.answer)


class Reception:
    """The desks that are open here, by partition."""

    def __init__(self, group: RequestGroup, gate: Outgate, figures: RequestFigures) -> None:
        self.group = group
        self._gate = gate
        self._figures = figures
        self._desks: dict[int, Desk] = {}

    def partition(self, key: bytes) -> int:
        """Where the requests of a key are recorded."""
        return Partitioner.MURMUR2.place(key, self.group.partitions)

    def desks_of(self, site: "Worksite", partition: int) -> "Begin":
        """One desk after the other, for whoever keeps the partition running."""
        return lambda view: Desk(site, self.group, partition, view, self._desks)

    @asynccontextmanager
    async def claimed(self, key: bytes, fingerprint: bytes) -> AsyncIterator[Claim]:
        """The request in the caller's hand, or its recorded answer; another one of its key is waited for.

        What was not committed when the block ends is given up: nothing is recorded of it.
        Raises: KeyReused, StillRecovering, NotOwner, StoreCorrupt, and what the one waited for has met.
        """
        partition = self.partition(key)
        desk = self._desks.get(partition)
        if desk is None:
            raise StillRecovering(f"partition {partition} of the recorded requests is being taken over")
        try:
            in_hand = await desk.claim(key, fingerprint)
        except KeyReused:
            self._figures.refused += 1
            raise
        if in_hand.recorded is not None:
            self._figures.repeated += 1
        try:
            yield Claim(desk, key, in_hand, self._gate)
        finally:
            desk.release(key, in_hand)

    def note_refusal(self) -> None:
        """Count a request whose key cannot be read."""
        self._figures.refused += 1
