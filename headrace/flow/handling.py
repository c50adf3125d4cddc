"""The agents of one task at work: they are handed events, and what becomes of those they refuse."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from headrace.clock import Clock, is_set_within
from headrace.errors import (
    AgentReturned,
    DeclarationError,
    DecodeError,
    EventError,
    ForeignKey,
    HandlerError,
    HeadraceError,
    OutsideAgent,
    PositionError,
    RowMismatch,
)
from headrace.flow.agent import AgentRun
from headrace.flow.deadletter import Letter
from headrace.flow.decoding import check_placement, decode_events, place
from headrace.flow.group import Group
from headrace.flow.hand import Hand
from headrace.flow.isolation import Isolation
from headrace.flow.policy import Retry, Stop
from headrace.flow.portion import Portion
from headrace.flow.sending import active_sender
from headrace.flow.sink import active_sink
from headrace.flow.unit import Unit
from headrace.log.port import Chunk
from headrace.tables.rows import active_rows
from headrace.tables.store import Store
from headrace.vitals import Kind, Vital, Vitals

_OF_THE_EVENT = (EventError, DeclarationError, ForeignKey, OutsideAgent, RowMismatch, PositionError)
"""Errors that an agent raises because of the event in its hand; others are the store's or the log's."""


class Guard(Exception):
    """An event was refused: run the portion again, with each event's writes apart."""


class Bound(Exception):
    """An event was refused and must be tried by itself: commit what lies before it first."""

    def __init__(self, chunk: Chunk, index: int) -> None:
        self.chunk = chunk
        self.index = index


class Abandoned(Exception):
    """The task stops while an event waits to be tried again."""


class Handling:
    """Hands a portion's events to the agents of a task, and follows their policy for bad ones."""

    def __init__(
        self,
        hand: Hand,
        runs: Sequence[AgentRun],
        isolation: Isolation,
        *,
        clock: Clock,
        vitals: Vitals,
    ) -> None:
        self._hand = hand
        self._group: Group = hand.group
        self._runs = runs
        self._isolation = isolation
        self._clock = clock
        self._stopping = asyncio.Event()
        self._vitals = vitals
        self._vital = Vital(Kind.HANDLER, f"an agent of task {hand.group.name}/{hand.partition}")
        """Shows with each event that is handed out that the agent at work goes on."""
        self._leading: AgentRun | None = None
        """The first agent of a topic while it is at work: it alone may end a run of events early."""
        self._by_topic = {
            name: [run for run in runs if run.agent.topic.name == name] for name in self._group.inputs
        }
        self._unit: Unit
        self._portion: Portion

    # --- life

    async def start(self, store: Store) -> None:
        """Give every agent its tables, start it, and wait until it asks for its first event."""
        self._vital = self._vitals.add(Kind.HANDLER, self._vital.name)
        self._hand.open_tables(store)
        for run in self._runs:
            await self._start(run)

    async def _start(self, run: AgentRun) -> None:
        context = copy_context()
        context.run(active_rows.set, self._hand)
        context.run(active_sender.set, self._hand)
        if self._hand.sink is not None:
            context.run(active_sink.set, self._hand.sink)
        run.start(context, f"agent {run.agent.name} {self._group.name}/{self._hand.partition}")
        await run.asked()

    async def close(self) -> None:
        """End every agent. Cancel: the agents end all the same."""
        self._vitals.remove(self._vital)
        for run in self._runs:
            run.cancel()
        for run in self._runs:
            await run.ended()

    def stop(self) -> None:
        """Let the run of events in hand end early."""
        self._stopping.set()
        if self._leading is not None:
            self._leading.stream.stop_early()

    async def drop(self) -> None:
        """Forget the unit in hand: its writes, what it sent, and how far the agents had come in it."""
        for rows in self._hand.tables():
            rows.drop()
        if self._hand.sink is not None:
            await self._hand.sink.drop()
        for run in self._runs:
            await self._restart(run)

    async def _restart(self, run: AgentRun) -> None:
        run.cancel()
        await run.ended()
        await self._start(run)

    # --- a unit

    async def run(self, unit: Unit, portion: Portion, *, time_max_s: float) -> Portion | None:
        """Run the portion, as far as the time bound allows; what is left over, if anything.

        Raises: Guard, Bound and Abandoned, after which the unit is to be dropped; the error of an
        event whose policy stops the partition.
        """
        self._unit, self._portion = unit, portion
        self._hand.guard_events(is_guarded=portion.is_guarded)
        self._isolation.unit_began()
        deadline = time.perf_counter() + time_max_s
        for index, chunk in enumerate(portion.chunks):
            finished = await self._run_chunk(chunk, deadline)
            unit.finished(chunk, finished)
            rest = [*([chunk.tail(finished)] if finished < len(chunk) else []), *portion.chunks[index + 1 :]]
            if finished < len(chunk) or time.perf_counter() >= deadline or self._stopping.is_set():
                return Portion(rest, portion.is_guarded) if rest else None
        return None

    async def _run_chunk(self, chunk: Chunk, deadline: float) -> int:
        if not len(chunk):
            return 0
        if chunk.topic == self._group.replay:
            return await self._run_letter(chunk)
        check_placement(self._group.inputs[chunk.topic], chunk, self._group.partitions)
        return await self._run_events(chunk, chunk, self._by_topic[chunk.topic], "", deadline)

    async def _run_letter(self, chunk: Chunk) -> int:
        """Give one dead letter back to the agent that refused it; it is a portion by itself."""
        letter = Letter.parse(chunk.keys[0], chunk.values[0], chunk.headers[0])
        if letter is None or letter.topic not in self._by_topic:
            topic = letter.topic if letter else ""
            what = f"no agent reads topic {topic}" if topic else "this is no dead letter"
            self._refuse(chunk, 0, (), letter.agent if letter else "", DecodeError(what, **place(chunk, 0)))
            return 1
        runs = [run for run in self._by_topic[letter.topic] if letter.agent in ("", run.agent.name)]
        source = Chunk(
            letter.topic, chunk.partition, (letter.offset,), (letter.timestamp_ms,), (letter.key,),
            (letter.value,), (letter.headers,), letter.offset + 1, letter.offset + 1,
        )  # fmt: skip
        if not runs:
            what = f"there is no agent {letter.agent} on this topic"
            self._refuse(source, 0, (), letter.agent, DecodeError(what, **place(source, 0)))
            return 1
        self._hand.is_replaying = True
        try:
            return await self._run_events(source, chunk, runs, letter.agent, float("inf"))
        finally:
            self._hand.is_replaying = False

    async def _run_events(
        self, chunk: Chunk, fetched: Chunk, runs: Sequence[AgentRun], refuser: str, deadline: float
    ) -> int:
        """Let every agent finish a run of the chunk's events; how many all of them finished or refused.

        Shape: `fetched` is the chunk as it lies in its input; another one for a dead letter.
        """
        at = 0
        topic, refused = self._group.inputs[chunk.topic], self._isolation.refused_in(fetched)
        while at < len(chunk):
            values, error = await decode_events(topic, chunk, at, refused)
            if values:
                finished = await self._run_agents(chunk, at, values, runs, deadline)
                at += finished
                if finished < len(values):
                    break
            if error is not None:
                if any(isinstance(_end(run), Stop) for run in runs):
                    if not self._portion.is_alone:
                        raise Bound(fetched, at)
                    raise error
                self._refuse(chunk, at, runs, refuser, error)
                at += 1
            if time.perf_counter() >= deadline or self._stopping.is_set():
                break
        return at

    async def _run_agents(
        self, chunk: Chunk, base: int, values: list[Any], runs: Iterable[AgentRun], deadline: float
    ) -> int:
        try:
            for index, run in enumerate(runs):
                # Only the first agent may end the run; the others get the same events, to the last:
                # what one has finished and another has not can neither be committed nor run again.
                self._leading = None if index else run
                limit = float("inf") if index else deadline
                values = values[: await self._run_agent(run, chunk, base, values, limit)]
                if values and self._hand.seen is not None:
                    # What this agent wrote can be read by the next one: it has seen as much.
                    self._hand.seen.passed(chunk.topic, chunk.offsets[base + len(values) - 1] + 1)
        finally:
            self._leading = None
        return len(values)

    async def _run_agent(
        self, run: AgentRun, chunk: Chunk, base: int, values: Sequence[Any], deadline: float
    ) -> int:
        start = tried = 0
        name = run.agent.name
        while start < len(values):
            self._hand.take(run)
            run.stream.hand_out(chunk, values, deadline, base=base, start=start)
            try:
                self._vital.expect(partial(getattr, run.stream, "index"))
                finished = await run.asked()
                if self._portion.is_alone and self._hand.sink is not None:
                    # By itself an event is told at once whether the database takes it, and so is its policy.
                    await self._hand.sink.flush()
            except AgentReturned:
                raise
            except _OF_THE_EVENT as error:
                if self._portion.is_guarded:
                    self._hand.roll_back()
                self._hand.release()
                failed = min(run.stream.index, len(values) - 1)
                if failed > start:
                    self._isolation.succeeded(name)
                    self._unit.of(name).events += failed - start
                    tried = 0
                tried += 1
                is_tried_again = await self._refused(run, chunk, base + failed, error, tried)
                start, tried = (failed, tried) if is_tried_again else (failed + 1, 0)
            else:
                self._isolation.succeeded(name)
                self._unit.of(name).events += finished - start
                return finished
            finally:
                self._vital.rest()
                self._hand.release()
        return len(values)

    # --- what is refused

    async def _refused(
        self, run: AgentRun, chunk: Chunk, index: int, error: HeadraceError, tried: int
    ) -> bool:
        """Follow the agent's policy for the event it refused; whether it is to be tried again."""
        if not self._portion.is_guarded:
            raise Guard
        policy = run.agent.on_error
        is_tried_again = isinstance(policy, Retry) and tried <= policy.times
        if (is_tried_again or isinstance(_end(run), Stop)) and not self._portion.is_alone:
            raise Bound(chunk, index)
        await self._restart(run)
        if is_tried_again and isinstance(policy, Retry):
            self._unit.of(run.agent.name).retries += 1
            if await is_set_within(self._stopping, policy.wait_s(tried), self._clock):
                raise Abandoned
            return True
        if isinstance(_end(run), Stop):
            if isinstance(error, EventError):
                raise error
            what = f"agent {run.agent.name} raised {type(error).__name__}: {error.what}"
            raise HandlerError(what, hint=error.next_step, **place(chunk, index)) from error
        self._refuse(chunk, index, (run,), run.agent.name, error)
        return False

    def _refuse(
        self, chunk: Chunk, index: int, runs: Sequence[AgentRun], agent: str, error: HeadraceError
    ) -> None:
        """Put the event among the dead letters. Raises: TooManyDeadLetters, RecordTooLarge."""
        letter = Letter(
            key=chunk.keys[index],
            value=chunk.values[index],
            headers=chunk.headers[index],
            timestamp_ms=chunk.timestamps_ms[index],
            group=self._group.name,
            agent=agent,
            error=_error_name(error),
            reason=error.what,
            at_ms=int(self._clock.time() * 1000),
            topic=chunk.topic,
            partition=chunk.partition,
            offset=chunk.offsets[index],
        )
        self._unit.bury(letter, by=[run.agent.name for run in runs])
        for run in runs:
            self._isolation.failed(run.agent.name, error, place(chunk, index))


def _end(run: AgentRun) -> Any:
    policy = run.agent.on_error
    return policy.then if isinstance(policy, Retry) else policy


def _error_name(error: HeadraceError) -> str:
    """The name of what the agent itself raised, where we only wrapped it."""
    raised = error.__cause__ if isinstance(error, HandlerError) else None
    return type(raised or error).__name__
