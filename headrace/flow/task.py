"""A task: one partition number of a group, run from take-over to close, unit after unit."""

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from headrace.causes import first_cause
from headrace.clock import is_set_within
from headrace.errors import EventError, HeadraceError, StoreUnwritable, UnencodableValue
from headrace.events.position import TopicPartition
from headrace.events.seen import Print
from headrace.flow.admission import Admission
from headrace.flow.agent import AgentRun
from headrace.flow.applying import Applying
from headrace.flow.causality import TaskSeen, input_print
from headrace.flow.deadletter import dead_letters_name
from headrace.flow.group import Group
from headrace.flow.hand import Hand
from headrace.flow.handling import Abandoned, Bound, Guard, Handling
from headrace.flow.intake import Intake
from headrace.flow.isolation import Isolation
from headrace.flow.portion import Portion
from headrace.flow.sending import Outbox
from headrace.flow.settling import Settling
from headrace.flow.sink import OpenSink, SinkRefused
from headrace.flow.sinking import follow_sink
from headrace.flow.takeover import Held, take_over
from headrace.flow.tracing import TaskTrace
from headrace.flow.unit import SealedUnit, Unit, seal
from headrace.flow.worksite import Worksite
from headrace.log.port import Reader, catalog
from headrace.tables.view import PartitionView


class Task:
    """One task of a group, for as long as this worker holds it without a failure."""

    def __init__(
        self, site: Worksite, group: Group, partition: int, view: PartitionView, isolation: Isolation
    ) -> None:
        self._site = site
        self._group = group
        self._partition = partition
        self._view = view
        self._isolation = isolation
        self._catalog = catalog(site.log, site.topics)
        self._followed = site.followed_by(group.name)
        self._seen: TaskSeen
        self._sink: OpenSink | None = None
        self._topic_sizes = {name: info.partitions for name, info in site.topics.items()}
        self._stopping = asyncio.Event()
        self._sink_written_s = -math.inf
        self._intake: Intake | None = None
        self._portions: deque[Portion] = deque()
        """What was fetched and is to be run next."""
        self._hand = Hand(
            group,
            partition,
            cache_rows_max=site.settings.cache_rows_max,
            followed=self._followed,
            watch=view.watched_rows,
        )
        self._trace = TaskTrace(site.spans, group.name, partition)
        runs = [
            AgentRun(agent, app=site.app, partition=partition, trace=self._trace) for agent in group.agents
        ]
        self._handling = Handling(self._hand, runs, isolation, clock=site.clock, vitals=site.vitals)

    def stop(self) -> None:
        """Take no further event, finish and commit the unit in hand, close; `run` then returns."""
        self._stopping.set()
        if self._intake is not None:
            self._intake.stop()
        self._handling.stop()

    async def run(self) -> None:
        """Take the task over and run it until `stop`.

        Cancel: a unit that is not committed is dropped; its outcome is read from the changelog at
        the next take-over. Raises: the first error, after which everything of the task is closed.
        """
        try:
            await self._run()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreUnwritable:
        where = f"the store of {self._group.name}/{self._partition}"
        return StoreUnwritable(f"{where} cannot be written: {error}")

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
            await self._open_sink(held)
            reader = await site.log.reader(held.position(partition))
            try:
                await self._run_held(held, reader)
            except HeadraceError as error:
                self._view.close(failure=error)
                raise
            except OSError as error:
                self._view.close(failure=self._unwritable(error))
                raise
            finally:
                self._view.close()
                await reader.close()
        finally:
            await self._let_go(held)

    async def _open_sink(self, held: Held) -> None:
        """Take the group's sink over, if it has one, and let the task go on where that is."""
        site, group = self._site, self._group
        if group.sink is None:
            return
        self._sink = self._hand.sink = await group.sink.open(
            site.app, group.name, self._partition, site.settings
        )
        await follow_sink(self._sink, held, group, self._partition, log=site.log, topics=site.topics)

    async def _let_go(self, held: Held) -> None:
        try:
            if self._sink is not None:
                await self._sink.close()
        finally:
            await held.close()

    async def _run_held(self, held: Held, reader: Reader) -> None:
        try:
            for followed in self._followed:
                # Only now: what an older owner of a global table left open is aborted by taking over.
                await followed.until_served()
            self._hand.muted_until = held.reset.muted_until if held.reset else {}
            self._seen = self._hand.seen = self._task_seen(held)
            intake = self._intake = self._open_intake(held, reader)
            await self._handling.start(held.store)
            self._view.replay_offset_next = held.inputs[self._group.replay].offset_next
            position = held.position(self._partition, hidden=self._group.replay)
            self._view.serve(held.store, position, held.seen)
            async with asyncio.TaskGroup() as crew:
                watch = crew.create_task(held.watch_store(), name=f"damage watch of {self._view.group}")
                applying = Applying(held, self._view, self._site.clock, self._site.room)
                store = crew.create_task(
                    applying.run(), name=f"store of {self._view.group}/{self._partition}"
                )
                settling = self._settling(held, applying, crew)
                if not held.is_position_durable:
                    await self._finish(self._first_unit(held), held, settling, is_in_sink=held.is_sink_ahead)
                await self._run_units(held, intake, settling)
                for each in (watch, store):
                    each.cancel()
        except BaseExceptionGroup as failures:
            cause = first_cause(failures)
            raise cause from cause.__cause__
        finally:
            if self._intake is not None:
                self._intake.close()
            await self._handling.close()

    def _prints(self, held: Held) -> dict[str, Print]:
        return {name: input_print(name, held.inputs[name], self._partition) for name in self._group.inputs}

    def _task_seen(self, held: Held) -> TaskSeen:
        hidden = self._group.replay
        parked = {
            input_print(name, at, self._partition): at.offset_next
            for name, at in held.parked.items()
            if name != hidden
        }
        return TaskSeen(
            self._prints(held), held.seen, parked=parked, catalog=self._catalog, followed=self._followed
        )

    def _open_intake(self, held: Held, reader: Reader) -> Intake:
        site = self._site
        admission = Admission(
            self._prints(held),
            {name: held.inputs[name].offset_next for name in self._group.inputs},
            self._seen,
            view=self._view,
            isolation=self._isolation,
            log=site.log,
            catalog=self._catalog,
            clock=site.clock,
            followed=self._followed,
            partitions=self._topic_sizes,
            records_max=site.settings.unit_records_max,
        )
        return Intake(
            reader,
            admission,
            group=self._group,
            view=self._view,
            isolation=self._isolation,
            settings=site.settings,
            room=site.room,
            clock=site.clock,
            followed=self._followed,
        )

    def _settling(self, held: Held, applying: Applying, crew: asyncio.TaskGroup) -> Settling:
        site, changelog = self._site, self._group.changelog
        return Settling(
            held,
            TopicPartition(changelog, self._partition),
            group=self._group,
            view=self._view,
            figures=site.figures,
            trace=self._trace,
            isolation=self._isolation,
            unit_records_max=site.settings.unit_records_max,
            applying=applying,
            crew=crew,
        )

    def _new_unit(self, held: Held) -> Unit:
        site = self._site
        outbox = Outbox(
            site.app,
            self._topic_sizes,
            record_bytes_max=site.settings.record_bytes_max,
            clock=site.clock.time,
        )
        unit = Unit(
            held.unit + 1,
            outbox,
            held.inputs,
            reset=held.reset,
            parked=held.parked,
            dead_letters=dead_letters_name(site.app),
            dead_letter_bytes_max=site.dead_letter_bytes_max,
        )
        self._hand.begin(unit)
        self._seen.begin(unit.inputs)
        self._trace.take()
        return unit

    def _first_unit(self, held: Held) -> Unit:
        """A unit without events, which tells the log where the task is."""
        unit = self._new_unit(held)
        for topic, partition, records in held.letters:
            for record in records:
                unit.outbox.put(topic, partition, record)
        return unit

    async def _run_units(self, held: Held, intake: Intake, settling: Settling) -> None:
        while not self._stopping.is_set() and (portion := await self._next_portion(intake)) is not None:
            unit = self._new_unit(held)
            try:
                await self._run_portion(unit, portion, held, settling)
                continue
            except Guard:
                self._isolation.guard()
                again: Iterable[Portion] = (portion.guarded(),)
            except Bound as bound:
                again = portion.around(bound.chunk, bound.index)
            except _Unsealable as unsealable:
                again = self._without(unit, portion, unsealable.error)
            except SinkRefused:
                # Found in between, of one of the events so far: which one is found by halving.
                again = portion.guarded().first(max(1, portion.events // 2))
            except Abandoned:
                break
            except EventError:
                # The unit before has nothing to do with this event: it is committed all the same.
                await settling.until_settled()
                raise
            await self._handling.drop()
            self._portions.extendleft(reversed([*again]))
        await settling.until_settled()

    async def _run_portion(self, unit: Unit, portion: Portion, held: Held, settling: Settling) -> None:
        """Make a unit of the portion, and let it settle."""
        rest = await self._handling.run(unit, portion, time_max_s=self._site.settings.unit_time_max_s)
        if unit.events or (self._group.is_global and unit.inputs != held.inputs):
            # Followers of a global table know of its position by its units alone, and others wait for it.
            await self._finish(unit, held, settling)
        else:
            # Control records and gaps only: no transaction, stored with the next unit.
            held.inputs = unit.inputs
            await settling.until_committed()
            self._show(held)
        if rest is not None:
            self._portions.appendleft(rest)

    def _show(self, held: Held) -> None:
        """Show progress over no events."""
        self._view.replay_offset_next = held.inputs[self._group.replay].offset_next
        self._view.advance(held.position(self._partition, hidden=self._group.replay))

    async def _finish(self, unit: Unit, held: Held, settling: Settling, *, is_in_sink: bool = False) -> None:
        """Seal the unit and hand it on. Raises: _Unsealable."""
        unit.seen_record, unit.seen = self._seen.sealed(unit.inputs)
        try:
            sealed = await seal(
                unit,
                self._hand.tables(),
                group=self._group,
                partition=self._partition,
                time_ms=int(self._site.clock.time() * 1000),
            )
        except UnencodableValue as error:
            raise _Unsealable(error) from error
        if not is_in_sink:
            await self._commit_in_sink(sealed, unit, settling)
        held.unit, held.inputs = unit.number, unit.inputs
        self._isolation.unit_ended(unit.events)
        await settling.settle(sealed, self._trace.take())

    async def _commit_in_sink(self, sealed: SealedUnit, unit: Unit, settling: Settling) -> None:
        """Commit the unit where its effects are, if that is not the log. Raises: _Unsealable."""
        if self._sink is None:
            return
        # The log is never more than one unit behind: what it lacks is kept of the last one only.
        await settling.until_committed()
        try:
            await self._sink.commit(sealed.record, unit.outbox.to_append())
        except SinkRefused as refused:
            raise _Unsealable(refused.error) from refused
        self._sink_written_s = self._site.clock.monotonic()

    async def _let_sink_rest(self) -> None:
        """Wait until the sink is to be written again: what arrives meanwhile is one unit."""
        if self._group.sink is not None and self._group.sink.every_s:
            left_s = self._sink_written_s + self._group.sink.every_s - self._site.clock.monotonic()
            if left_s > 0:
                await is_set_within(self._stopping, left_s, self._site.clock)

    def _without(self, unit: Unit, portion: Portion, error: HeadraceError) -> Iterable[Portion]:
        """How to go on with a unit that cannot be sealed, by one of its events."""
        if unit.events > 1:
            return portion.first(unit.events // 2)
        if not portion.is_alone:
            return portion.first(1)
        self._isolation.refused[unit.place] = error
        return (portion,)

    async def _next_portion(self, intake: Intake) -> Portion | None:
        """What to run next; None when the task stops."""
        while not self._portions:
            await self._let_sink_rest()
            self._portions.extend(await intake.portions())
            if self._stopping.is_set():
                return None
        portion = self._portions.popleft()
        if self._isolation.events_max is None:
            return portion
        first, *rest = portion.first(self._isolation.events_max)
        self._portions.extendleft(rest)
        return first


class _Unsealable(Exception):
    """What the unit's events wrote cannot be encoded, or a database does not take it."""

    def __init__(self, error: HeadraceError) -> None:
        self.error = error
