"""A task: one partition number of a group, run from take-over to close, unit after unit."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import DecodeError, EventError, PartitionerMismatch, StoreUnwritable, first_cause
from headrace.events.position import TopicPartition
from headrace.flow.agent import AgentRun
from headrace.flow.figures import FlowFigures
from headrace.flow.group import Group
from headrace.flow.hand import Hand
from headrace.flow.restore import APPLY_ROWS_MAX
from headrace.flow.sending import Outbox, active_sender
from headrace.flow.stream import SLICE_S
from headrace.flow.takeover import Held, take_over
from headrace.flow.topic import Topic
from headrace.flow.tracing import TaskTrace
from headrace.flow.unit import SealedUnit, Unit, seal
from headrace.log.port import Chunk, Log, Reader, TopicInfo
from headrace.settings import Settings
from headrace.tables.rows import active_rows
from headrace.tables.store import StoreEngine
from headrace.tables.view import PartitionView

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from headrace.flow.spans import Spans

_DECODE_SLICE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Worksite:
    """What all tasks of one run share."""

    app: str
    log: Log
    engine: StoreEngine
    settings: Settings
    topics: Mapping[str, TopicInfo]
    figures: FlowFigures
    clock: Clock = SYSTEM_CLOCK
    spans: "Spans | None" = None


class Task:
    """One task of a group, for as long as this worker holds it without a failure."""

    def __init__(self, site: Worksite, group: Group, partition: int, view: PartitionView) -> None:
        self._site = site
        self._group = group
        self._partition = partition
        self._view = view
        self._topic_sizes = {name: info.partitions for name, info in site.topics.items()}
        self._is_stopping = False
        self._fetching: asyncio.Task[Sequence[Chunk]] | None = None
        self._leading: AgentRun | None = None
        """The first agent of a topic while it is at work: it alone may end a run of events early."""
        self._leftover: list[Chunk] = []
        self._committed: asyncio.Event | None = None
        self._settling: asyncio.Task[None] | None = None
        self._applying: asyncio.Task[None] | None = None
        """The unit before the one that `_settling` commits."""
        self._hand = Hand(group, partition, cache_rows_max=site.settings.cache_rows_max)
        self._trace = TaskTrace(site.spans, group.name, partition)
        self._agents: dict[str, list[AgentRun]] = {name: [] for name in group.inputs}
        for agent in group.agents:
            run = AgentRun(agent, app=site.app, partition=partition, trace=self._trace)
            self._agents[agent.topic.name].append(run)

    def stop(self) -> None:
        """Take no further event, finish and commit the unit in hand, close; `run` then returns."""
        self._is_stopping = True
        if self._fetching is not None:
            self._fetching.cancel()
        if self._leading is not None:
            self._leading.stream.stop_early()

    async def run(self) -> None:
        """Take the task over and run it until `stop`.

        Cancel: a unit that is not committed is dropped; its outcome is read from the changelog at
        the next take-over. Raises: the first error, after which everything of the task is closed.
        """
        try:
            await self._run()
        except OSError as error:
            where = f"the store of {self._group.name}/{self._partition}"
            raise StoreUnwritable(f"{where} cannot be written: {error}") from error

    async def _run(self) -> None:
        site, partition = self._site, self._partition
        held = await take_over(
            site.app,
            self._group,
            partition,
            log=site.log,
            engine=site.engine,
            topics=site.topics,
            view=self._view,
            clock=site.clock,
        )
        site.figures.takeovers += 1
        try:
            reader = await site.log.reader(held.position(partition))
            try:
                await self._run_held(held, reader)
            finally:
                self._view.close()
                await reader.close()
        finally:
            await held.close()

    async def _run_held(self, held: Held, reader: Reader) -> None:
        self._hand.open_tables(held.store)
        self._hand.muted_until = held.reset.muted_until if held.reset else {}
        self._view.serve(held.store, held.position(self._partition))
        try:
            async with asyncio.TaskGroup() as crew:
                agents = await self._start_agents(crew)
                watch = crew.create_task(held.watch_store(), name=f"damage watch of {self._view.group}")
                if not held.is_position_durable:
                    await self._finish_unit(self._new_unit(held), held, crew)
                await self._run_units(held, reader, crew)
                for side in (*agents, watch):
                    side.cancel()
        except BaseExceptionGroup as failures:
            cause = first_cause(failures)
            raise cause from cause.__cause__

    async def _start_agents(self, crew: asyncio.TaskGroup) -> list[asyncio.Task[Any]]:
        """Start every agent and wait until each asks for its first event."""
        context = copy_context()
        context.run(active_rows.set, self._hand)
        context.run(active_sender.set, self._hand)
        started = []
        for run in (run for runs in self._agents.values() for run in runs):
            name = f"agent {run.agent.name} {self._group.name}/{self._partition}"
            started.append(crew.create_task(run.run(), name=name, context=context.copy()))
            await run.stream.asked()
        return started

    def _new_unit(self, held: Held) -> Unit:
        settings = self._site.settings
        outbox = Outbox(self._site.app, self._topic_sizes, record_bytes_max=settings.record_bytes_max)
        self._hand.outbox = outbox
        self._trace.take()
        return Unit(held.unit + 1, outbox, held.inputs, held.reset)

    async def _run_units(self, held: Held, reader: Reader, crew: asyncio.TaskGroup) -> None:
        while not self._is_stopping and (chunks := await self._next_chunks(reader)):
            unit = self._new_unit(held)
            try:
                await self._run_events(unit, chunks)
            except EventError:
                # The unit before has nothing to do with this event: it is committed all the same.
                await self._until_settled()
                raise
            if unit.events:
                await self._finish_unit(unit, held, crew)
            else:
                # Control records and gaps only: no transaction, stored with the next unit.
                held.inputs = unit.inputs
                await self._until_committed()
                self._view.advance(held.position(self._partition))
        await self._until_settled()

    async def _next_chunks(self, reader: Reader) -> Sequence[Chunk]:
        """What to run next; empty when the task stops."""
        if self._leftover:
            chunks, self._leftover = self._leftover, []
            return chunks
        settings = self._site.settings
        fetch = reader.fetch(records_max=settings.unit_records_max, bytes_max=settings.unit_bytes_max)
        name = f"fetch {self._group.name}/{self._partition}"
        self._fetching = asyncio.create_task(fetch, name=name)
        try:
            await asyncio.wait({self._fetching})
            fetched = () if self._fetching.cancelled() else self._fetching.result()
        finally:
            self._fetching.cancel()
            self._fetching = None
        for chunk in fetched:
            self._view.input_ends[TopicPartition(chunk.topic, chunk.partition)] = chunk.high_watermark
        return fetched

    async def _run_events(self, unit: Unit, chunks: Sequence[Chunk]) -> None:
        """Hand the events to the agents; what the unit's time bound leaves over is kept for the next."""
        deadline = time.perf_counter() + self._site.settings.unit_time_max_s
        for index, chunk in enumerate(chunks):
            finished = await self._hand_out(chunk, deadline) if len(chunk) else 0
            unit.events += finished
            if finished < len(chunk):
                unit.reached(chunk.topic, chunk.offsets[finished])
                self._leftover = [chunk.tail(finished), *chunks[index + 1 :]]
                return
            unit.reached(chunk.topic, chunk.offset_next)
            if time.perf_counter() >= deadline or self._is_stopping:
                self._leftover = list(chunks[index + 1 :])
                return

    async def _hand_out(self, chunk: Chunk, deadline: float) -> int:
        """Let every agent of the topic finish a run of its events; how many all of them finished."""
        topic = self._group.inputs[chunk.topic]
        self._check_placement(topic, chunk)
        values = await self._decoded(topic, chunk)
        for index, run in enumerate(self._agents[chunk.topic]):
            # Only the first agent may end the run; the others get the same events, to the last: what
            # one has finished and another has not can neither be committed nor be run again.
            self._leading = None if index else run
            self._hand.take(run)
            run.stream.hand_out(chunk, values, float("inf") if index else deadline)
            values = values[: await run.stream.asked()]
            self._hand.release()
        self._leading = None
        return len(values)

    async def _decoded(self, topic: Topic[Any, Any], chunk: Chunk) -> list[Any]:
        """The events up to the first that cannot be read. Raises: DecodeError when that is the first."""
        values: list[Any] = []
        began = time.perf_counter()
        decode = topic.values.decode
        stop = chunk.keys.index(None) if topic.is_keyed and None in chunk.keys else len(chunk)
        try:
            for start in range(0, stop, _DECODE_SLICE):
                for raw in chunk.values[start : min(start + _DECODE_SLICE, stop)]:
                    values.append(None if raw is None else decode(raw))
                if time.perf_counter() - began > SLICE_S:
                    await asyncio.sleep(0)
                    began = time.perf_counter()
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            if not values:
                raise _unreadable(chunk, f"the event cannot be decoded: {error}") from error
        if not values:
            raise _unreadable(chunk, "the event has no key, and its topic declares one")
        return values

    def _check_placement(self, topic: Topic[Any, Any], chunk: Chunk) -> None:
        key = chunk.keys[0]
        if key is None or not topic.is_keyed or self._group.partitions == 1:
            return
        home = topic.partitioner.place(key, self._group.partitions)
        if home != chunk.partition:
            raise PartitionerMismatch(
                f"the key {key[:80]!r} belongs to partition {home} by {topic.partitioner}",
                topic=chunk.topic,
                partition=chunk.partition,
                offset=chunk.offsets[0],
            )

    async def _finish_unit(self, unit: Unit, held: Held, crew: asyncio.TaskGroup) -> None:
        """Seal the unit, and start its commit as soon as the previous one is acknowledged."""
        traced = self._trace.take()
        sealed = await seal(
            unit, self._hand.tables(), changelog=self._group.changelog, partition=self._partition
        )
        held.unit, held.inputs = unit.number, unit.inputs
        # Nothing of this unit is sent before the previous commit is acknowledged, and at most one
        # committed unit waits to be applied.
        await self._until_committed()
        if self._applying is not None:
            await asyncio.wait({self._applying})
        self._applying = previous = self._settling
        self._committed = asyncio.Event()
        name = f"unit {unit.number} {self._group.name}/{self._partition}"
        self._settling = crew.create_task(
            self._settle(sealed, held, previous, self._committed, traced), name=name
        )

    async def _until_committed(self) -> None:
        if self._committed is not None:
            await self._committed.wait()

    async def _until_settled(self) -> None:
        if self._settling is not None:
            await asyncio.wait({self._settling})

    async def _settle(
        self,
        sealed: SealedUnit,
        held: Held,
        previous: asyncio.Task[None] | None,
        committed: asyncio.Event,
        traced: "Sequence[SpanContext]",
    ) -> None:
        """Commit, publish, apply: in this order."""
        held.check_store()
        began = time.perf_counter()
        with self._trace.committing(sealed.record.unit, sealed.events, traced):
            offsets = await held.writer.commit(sealed.appends)
        figures = self._site.figures
        figures.commit_time.add(time.perf_counter() - began)
        figures.units += 1
        figures.events += sealed.events
        figures.rows += len(sealed.rows)
        for append in sealed.appends[1:]:
            figures.outputs += len(append.records)
            figures.sent[append.topic] += len(append.records)
        layer = dict(sealed.rows)
        self._view.publish(layer, sealed.position)
        committed.set()
        if previous is not None:
            await previous
        changelog_next = offsets[TopicPartition(self._group.changelog, self._partition)]
        await self._apply(sealed, held, changelog_next)
        self._view.retire(layer)
        for rows, changed in sealed.writes:
            rows.applied(changed)

    async def _apply(self, sealed: SealedUnit, held: Held, changelog_next: int) -> None:
        """Write a committed unit into the store in slices; the last one carries the mark."""
        mark = held.mark(sealed.record, changelog_next)
        last = max(0, (len(sealed.rows) - 1) // APPLY_ROWS_MAX * APPLY_ROWS_MAX)
        for start in range(0, last, APPLY_ROWS_MAX):
            held.store.write(sealed.rows[start : start + APPLY_ROWS_MAX])
            await asyncio.sleep(0)
        held.store.write(sealed.rows[last:], mark)


def _unreadable(chunk: Chunk, why: str) -> DecodeError:
    return DecodeError(why, topic=chunk.topic, partition=chunk.partition, offset=chunk.offsets[0])
