"""The log of a world: slow by chance, and each transaction goes step by step and may end in the dark."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from random import Random
from typing import NamedTuple

from headrace.errors import CommitUnknown, Fenced, LogError, RecordRefused, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Assignment, Chunk, Closing, Member, Membership, Outgoing, Reader, Writer
from headrace.log.simulated.cluster import Transaction
from headrace.testing.journal import Journal, is_unit
from headrace.testing.link import Inputs, Link, LinkedLog, LinkedReader
from headrace.testing.lookups import Lookups
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.app import ID
from tests.simulation.worlds.events import REFUSED_BY_LOG
from tests.simulation.worlds.model import Model
from tests.simulation.worlds.steps import Step, StepFate

TIMEOUT_S = 4.0
"""After this long a transaction that nobody ends is aborted."""
_LATE_S = (0.3, 3.0)
_UNLUCKY = 0.15
_NEWS_S = 0.9
"""How late a worker may hear of a rebalance."""


class Outcome(Enum):
    """What becomes of the end of a transaction."""

    WELL = "well"
    LOST = "lost before anything is appended"
    ABORTED = "its end is lost"
    COMMITTED = "its answer is lost"
    LATE = "its end arrives late"
    SLOW = "its answer is slow"


class Opening(NamedTuple):
    """A writer that was asked for: when, and how far its worker's wall clock was off then."""

    moment_s: float
    clock_off_s: float


class Ledger(Journal):
    """All that was ever committed, held against the model unit by unit."""

    def __init__(self, model: Model) -> None:
        super().__init__("world")
        self.model = model
        self.openings: defaultdict[str, list[Opening]] = defaultdict(list)
        """Who took each transactional id, one after the other."""


class WorldLink(Link):
    """The way of one life of a worker to the log."""

    fate: StepFate

    def __init__(
        self,
        ledger: Ledger,
        fate: StepFate,
        lookups: Lookups,
        rng: Random,
        pace: float,
        opening: Callable[[], Opening],
    ) -> None:
        super().__init__(ledger, fate, lookups)
        self.ledger = ledger
        self.opening = opening
        """What a writer that is asked for now is noted as."""
        self.outcomes: list[Outcome] = []
        """What becomes of the next transactions, one after the other."""
        self.unconfirmed: set[str] = set()
        """Transactional ids that were fenced, and that the group has not confirmed since."""
        self._rng = rng
        self._pace = pace

    async def hop(self) -> None:
        """One way to the log or back: slow now and then, cut off, never for the dead."""
        await self.fate.going.wait()
        await self.fate.until_buried()
        if self.fate.calls_left is not None:
            self.fate.calls_left -= 1
            if self.fate.calls_left < 0:
                await time_passes(0.02)
                raise Unavailable("the network is cut")
        await self.wait()
        await self.fate.going.wait()
        await self.fate.until_buried()

    async def wait(self) -> None:
        """Take as long as it takes."""
        dice = self._rng.random()
        if dice < self._pace:
            await time_passes(self._rng.random() * (0.3 if dice < self._pace / 8 else 0.02))
        else:
            await asyncio.sleep(0)

    def late_s(self) -> float:
        """How late the end of a transaction comes."""
        return self._rng.uniform(*_LATE_S)

    def is_unlucky(self) -> bool:
        """Whether this one takes long."""
        return self._rng.random() < _UNLUCKY

    def note(self, appends: Sequence[Append], behind: Mapping[TopicPartition, int]) -> None:
        """Note what was just committed; a unit is held against what its events make."""
        self.ledger.note_records(appends, behind)
        if is_unit(appends):
            changelog = TopicPartition(appends[0].topic, appends[0].partition)
            found = dict(self._lookups.committed(changelog, self.ledger.inputs_of(appends[0])))
            self.ledger.model.take_unit(appends, found, self.ledger)


class WorldLog(LinkedLog):
    """The log of one life of a worker."""

    _link: WorldLink

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader; each of a task's inputs comes to the step where it has fetched."""
        await self._link.hop()
        return WorldReader(self._link, positions)

    async def writer(self, transactional_id: str) -> Writer:
        """A writer; older ones are fenced, and what they left open is aborted."""
        self._link.ledger.openings[transactional_id].append(self._link.opening())
        await self._link.hop()
        if transactional_id in self._link.unconfirmed:
            self._link.ledger.broken.append(
                f"{transactional_id} was fenced, and is taken back without asking the group whose it is"
            )
        writer = StagedWriter(self._link, transactional_id)
        if transactional_id.rpartition("-")[0] in (f"{ID}-main", f"{ID}-archive", f"{ID}-rates"):
            await self._link.fate.stand_at(Step.FENCED)
        await self._link.hop()
        return writer

    async def close(self) -> None:
        """Disconnect; a network that is cut is no obstacle."""
        with contextlib.suppress(Unavailable):
            await super().close()

    async def join(self, member: Member) -> Membership:
        """Become a worker of the app, who is to ask the group whenever it was fenced."""
        while True:
            with contextlib.suppress(Unavailable):
                # The port: joining goes on in the background, and `next` tells of a group that is silent.
                return _AskedMembership(await super().join(member), self._link)


class _AskedMembership:
    """A membership that notes that it was asked (log.port.Membership)."""

    def __init__(self, membership: Membership, link: WorldLink) -> None:
        self._membership = membership
        self._link = link

    async def next(self, after: int) -> Assignment:
        """The first assignment above this generation; now and then it has long been another one."""
        assignment = await self._membership.next(after)
        await self._link.wait()
        if self._link.is_unlucky():
            await time_passes(_NEWS_S)
        self._link.unconfirmed.clear()
        return assignment

    async def confirm(self) -> Assignment:
        """The assignment as the group has it now."""
        await self._link.hop()
        assignment = await self._membership.confirm()
        self._link.unconfirmed.clear()
        return assignment

    async def close(self) -> None:
        """Leave."""
        await self._membership.close()


class WorldReader(LinkedReader):
    """Reads as slowly as the link is."""

    def __init__(self, link: WorldLink, positions: Mapping[TopicPartition, int]) -> None:
        super().__init__(link, positions)
        self._way = link
        names = Inputs.of(positions).topics
        self._is_of_task = "orders" in names or "notes" in names or "ratings" in names

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """What has arrived since the last fetch; nothing of it is lost to a cancel."""
        if not self._fetched:
            self._fetched = await super(LinkedReader, self).fetch(
                records_max=records_max, bytes_max=bytes_max
            )
        if self._is_of_task:
            await self._way.fate.stand_at(Step.FETCHED)
        fetched, self._fetched = self._fetched, ()
        return fetched


class StagedWriter:
    """The holder of a transactional id, whose transactions go step by step (log.port.Writer)."""

    def __init__(self, link: WorldLink, transactional_id: str) -> None:
        self._link = link
        self._id = transactional_id
        self._epoch = link.begin_epoch(transactional_id)
        self._is_usable = True

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """Append all of it in one transaction; see the port."""
        if not self._is_usable:
            raise LogError(f"the writer {self._id!r} has failed or was closed", hint="Take a new one.")
        self._is_usable = False
        outcome = self._link.outcomes.pop(0) if self._link.outcomes else Outcome.WELL
        steps = _Steps(self._link.fate, appends, closing)
        await steps.stand_at(Step.BEGIN)
        await self._link.hop()
        if outcome is Outcome.LOST:
            raise Unavailable("the connection was lost before anything was appended")
        try:
            transaction = self._begin(appends)
            await self._append(transaction, appends, closing, steps)
            await steps.stand_at(Step.APPENDED)
            await self._link.hop()
            offsets = await self._end(transaction, outcome, steps)
        except Fenced as fenced:
            self._link.unconfirmed.add(self._id)
            self._link.ledger.model.tell(f"{self._id} in epoch {self._epoch}: {fenced.what}")
            raise
        await steps.stand_at(Step.COMMITTED)
        await self._link.hop()
        if outcome is Outcome.SLOW:
            await time_passes(1.0)
            await self._link.hop()
        await steps.stand_at(Step.TOLD)
        if self._id == f"{ID}-outbox-0":
            await self._link.fate.stand_at(Step.RELAYED)
        self._is_usable = True
        return offsets

    def _begin(self, appends: Sequence[Append]) -> Transaction:
        for append in appends:
            self._link.ledger.check(append)
            if append.topic == "audit" and any(_is_refused(record) for record in append.records):
                raise RecordRefused("the log does not take this", topic=append.topic)
        transaction = self._link.ledger.transaction(self._id, self._epoch)
        # As a broker does with one whose owner is gone.
        asyncio.get_running_loop().call_later(TIMEOUT_S, transaction.abort)
        return transaction

    async def _append(
        self,
        transaction: Transaction,
        appends: Sequence[Append],
        closing: Closing | None,
        steps: "_Steps",
    ) -> None:
        for index, append in enumerate(_merged(appends)):
            if index == 1:
                await steps.stand_at(Step.PARTLY)
            if index:
                await self._link.hop()
            transaction.append(append)
        if closing is not None:
            last = closing.records(transaction.ends)
            transaction.append(Append(closing.topic, closing.partition, last))

    async def _end(
        self, transaction: Transaction, outcome: Outcome, steps: "_Steps"
    ) -> Mapping[TopicPartition, int]:
        if outcome is Outcome.ABORTED:
            transaction.abort()
            await steps.stand_at(Step.UNKNOWN_ABORTED)
            raise CommitUnknown("the end of the transaction was not answered")
        if outcome is Outcome.LATE:
            late_s = self._link.late_s()
            asyncio.get_running_loop().call_later(late_s, self._end_late, transaction)
            await steps.stand_at(Step.UNKNOWN_ABORTED)
            raise CommitUnknown("the end of the transaction is not answered yet")
        offsets = self._committed(transaction)
        if outcome is Outcome.COMMITTED:
            await steps.stand_at(Step.UNKNOWN_COMMITTED)
            raise CommitUnknown("the end of the transaction was committed, and not answered")
        return offsets

    def _committed(self, transaction: Transaction) -> Mapping[TopicPartition, int]:
        offsets = transaction.commit()
        self._link.note(transaction.appends, offsets)
        return offsets

    def _end_late(self, transaction: Transaction) -> None:
        try:
            self._committed(transaction)
        except Fenced as fenced:
            self._link.ledger.model.tell(f"late end of {self._id}: {fenced.what}")

    async def close(self) -> None:
        """Let go of the id."""
        self._is_usable = False


def _is_refused(record: Outgoing) -> bool:
    return REFUSED_BY_LOG.encode() in (record[1] or b"")


def _merged(appends: Sequence[Append]) -> Sequence[Append]:
    """One append for each partition, in the order in which they come first."""
    merged: dict[TopicPartition, list[Outgoing]] = {}
    for topic, partition, records in appends:
        merged.setdefault(TopicPartition(topic, partition), []).extend(records)
    return [Append(*place, records) for place, records in merged.items()]


class _Steps:
    """The steps of one transaction, by what it is for."""

    def __init__(self, fate: StepFate, appends: Sequence[Append], closing: Closing | None) -> None:
        self._fate = fate
        self._is_unit = is_unit(appends)
        self._is_request = closing is not None

    async def stand_at(self, step: Step) -> None:
        if self._is_unit:
            await self._fate.stand_at(step)
        else:
            if self._is_request and step is Step.COMMITTED:
                await self._fate.stand_at(Step.RECORDED)
            await self._fate.going.wait()
            await self._fate.until_buried()
