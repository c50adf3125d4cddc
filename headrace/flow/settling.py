"""How a unit ends: committed in the log, shown to readers, handed on to the store; one after the other."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.errors import LogError, RecordRefused, RecordTooLarge
from headrace.events.position import TopicPartition
from headrace.flow.applying import Applying, CommittedUnit
from headrace.flow.figures import FlowFigures
from headrace.flow.group import Group
from headrace.flow.isolation import Isolation
from headrace.flow.takeover import Held
from headrace.flow.tracing import TaskTrace
from headrace.flow.unit import SealedUnit
from headrace.tables.view import PartitionView

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext


class Settling:
    """Settles the units of one task in order: while one commits, the next one may be run."""

    def __init__(
        self,
        held: Held,
        changelog: TopicPartition,
        *,
        group: Group,
        view: PartitionView,
        figures: FlowFigures,
        trace: TaskTrace,
        isolation: Isolation,
        unit_records_max: int,
        applying: Applying,
        crew: asyncio.TaskGroup,
    ) -> None:
        self._held = held
        self._changelog = changelog
        self._group = group
        self._view = view
        self._figures = figures
        self._trace = trace
        self._isolation = isolation
        self._unit_records_max = unit_records_max
        self._applying = applying
        self._crew = crew
        self._committed: asyncio.Event | None = None
        self._settling: asyncio.Task[None] | None = None

    async def settle(self, sealed: SealedUnit, traced: "Sequence[SpanContext]") -> None:
        """Start the unit's commit as soon as the previous one is acknowledged.

        Shape: `traced` are the spans of its events, to which that of the commit is linked.
        """
        # Nothing of this unit is sent before the previous commit is acknowledged, and few committed
        # units wait to be applied.
        await self.until_committed()
        await self._applying.until_room()
        self._committed = asyncio.Event()
        name = f"unit {sealed.record.unit} {self._group.name}/{self._changelog.partition}"
        self._settling = self._crew.create_task(self._settle(sealed, self._committed, traced), name=name)

    async def until_committed(self) -> None:
        """Return once the last unit is acknowledged."""
        if self._committed is not None:
            await self._committed.wait()

    async def until_settled(self) -> None:
        """Return once the last unit is in the store, or has failed."""
        if self._settling is not None:
            await asyncio.wait({self._settling})
            if not self._settling.cancelled() and self._settling.exception() is None:
                await self._applying.until_applied()

    async def _settle(
        self, sealed: SealedUnit, committed: asyncio.Event, traced: "Sequence[SpanContext]"
    ) -> None:
        """Commit, publish, and let it be applied: in this order."""
        self._held.check_store()
        began = time.perf_counter()
        with self._trace.committing(sealed.record.unit, sealed.unit.events, traced):
            offset_next = await self._commit(sealed)
        self._count(sealed, time.perf_counter() - began)
        self._view.replay_offset_next = sealed.record.inputs[self._group.replay].offset_next
        self._view.publish(sealed.rows, sealed.position, sealed.unit.seen, sealed.unit.notes)
        # What it sent is not kept any longer.
        self._applying.add(
            CommittedUnit(sealed.record, sealed.rows, sealed.rows_bytes, sealed.writes, offset_next)
        )
        committed.set()

    async def _commit(self, sealed: SealedUnit) -> int:
        """The next offset of the changelog. Raises: as `Writer.commit`; RecordRefused is narrowed down."""
        unit = sealed.unit
        try:
            offsets = await self._held.writer.commit(sealed.appends)
        except (RecordRefused, RecordTooLarge) as error:
            if not unit.events:
                raise LogError(f"the log does not even take a position: {error}") from error
            self._isolation.commit_refused(unit.events, unit.place, error)
            if isinstance(error, RecordRefused):
                raise
            raise RecordRefused(error.what, topic=error.topic, partition=error.partition) from error
        self._isolation.committed(unit.events, self._unit_records_max)
        return offsets[self._changelog]

    def _count(self, sealed: SealedUnit, seconds: float) -> None:
        figures, unit = self._figures, sealed.unit
        figures.commit_time.add(seconds)
        figures.units += 1
        figures.events += unit.events
        figures.rows += len(sealed.rows)
        for append in sealed.appends[1:]:
            figures.sent[append.topic] += len(append.records)
        figures.outputs += unit.outbox.records - unit.dead_letters
        figures.dead_letters += unit.dead_letters
        for name, done in unit.agents.items():
            of_agent = figures.agents[self._group.name, name]
            of_agent.events += done.events
            of_agent.dead_letters += done.dead_letters
            of_agent.sent += done.sent
            of_agent.retries += done.retries
            figures.retries += done.retries
