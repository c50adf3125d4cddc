"""One partition of a group, folded once more by its own agents in memory: who wrote a row, in which order.

Handlers can be run again: their state is in tables, and what they send is dropped here.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headrace.errors import AgentReturned, HeadraceError
from headrace.events.event import Correction
from headrace.events.position import TopicPartition
from headrace.flow.agent import AgentRun
from headrace.flow.deadletter import Letter
from headrace.flow.decoding import decode_events
from headrace.flow.fact import Fact, Raw, fact_of
from headrace.flow.group import Group
from headrace.flow.hand import Hand
from headrace.flow.lanes import Run
from headrace.flow.sending import Sent, active_sender
from headrace.flow.topic import Topic
from headrace.flow.tracing import TaskTrace
from headrace.log.port import Chunk
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.rows import KeyGuard, Rows, active_rows
from headrace.tables.store import Store
from headrace.tables.table import Table
from headrace.turns import Turns

_APPLY_ROWS = 128

Refused = Mapping[tuple[str, int], Counter[str]]
"""Topic and offset of an event to how often each agent refused it; an empty name stands for all of them.

An event is tried once when it is handed out, and once with each replay of its dead letter; the
first so many trials were refused.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """An event that wrote the row."""

    raw: Raw
    agent: str
    row: bytes | None
    """The row as it left it; None: deleted."""
    is_replayed: bool
    """Whether it was a dead letter that was brought back."""


class Retelling:
    """The agents of one task at work on events that were handled before."""

    def __init__(
        self,
        group: Group,
        partition: int,
        watched: tuple[Table[Any, Any], Any],
        *,
        refused: Refused,
        followed: Sequence[GlobalView] = (),
        cache_rows_max: int,
        touches_max: int,
    ) -> None:
        self.touches: deque[Touch] = deque(maxlen=touches_max)
        """The newest ones, in the order of hand-out."""
        self.touched = 0
        self.corrections: dict[str, list[Fact]] = {}
        """Corrections among the events, by the id of what they correct."""
        self.failed = 0
        """Events that an agent refused now, and not when they were handled."""
        self._group = group
        self._partition = partition
        self._refused = refused
        self._store = MemoryStore()
        self._hand = _Hand(group, partition, watched, self._touch, followed, cache_rows_max=cache_rows_max)
        trace = TaskTrace(None, group.name, partition)
        self._runs = [
            AgentRun(agent, app=group.app, partition=partition, trace=trace) for agent in group.agents
        ]
        self._turns = Turns()
        self._is_replayed = False

    async def start(self) -> None:
        """Let every agent ask for its first event."""
        self._hand.open_tables(self._store)
        self._hand.guard_events(is_guarded=True)
        for run in self._runs:
            await self._start(run)

    async def _start(self, run: AgentRun) -> None:
        context = copy_context()
        context.run(active_rows.set, self._hand)
        context.run(active_sender.set, self._hand)
        run.start(context, f"retelling {run.agent.name} {self._group.name}/{self._partition}")
        await run.asked()

    async def close(self) -> None:
        """End every agent. Cancel: the agents end all the same."""
        for run in self._runs:
            run.cancel()
        for run in self._runs:
            await run.ended()

    def row(self, row_key: bytes) -> bytes | None:
        """A row as the events so far make it; as of the last `take`."""
        return self._store.get(row_key)

    async def take(self, run: Run) -> None:
        """Fold these events. Raises: AgentReturned, UnencodableValue."""
        chunk, start, stop = run
        if chunk.topic == self._group.replay:
            for index in range(start, stop):
                await self._take_letter(chunk, index)
        else:
            part = chunk.head(stop) if stop < len(chunk) else chunk
            await self._take_events(part, start, self._by_topic(chunk.topic))
        await self._apply()

    def _by_topic(self, topic: str) -> list[AgentRun]:
        return [run for run in self._runs if run.agent.topic.name == topic]

    async def _take_letter(self, chunk: Chunk, index: int) -> None:
        letter = Letter.parse(chunk.keys[index], chunk.values[index], chunk.headers[index])
        if letter is None:
            return
        source = Chunk(
            letter.topic, chunk.partition, (letter.offset,), (letter.timestamp_ms,), (letter.key,),
            (letter.value,), (letter.headers,), letter.offset + 1, letter.offset + 1,
        )  # fmt: skip
        runs = [run for run in self._by_topic(letter.topic) if letter.agent in ("", run.agent.name)]
        self._is_replayed = True
        try:
            await self._take_events(source, 0, runs)
        finally:
            self._is_replayed = False

    async def _take_events(self, chunk: Chunk, at: int, runs: Sequence[AgentRun]) -> None:
        topic = self._group.inputs.get(chunk.topic)
        while topic is not None and at < len(chunk):
            values, error = await decode_events(topic, chunk, at, {})
            self._note_corrections(topic, chunk, at, values)
            refused = self._refused_in(chunk, at, len(values))
            for run in runs:
                await self._hand_out_accepted(run, chunk, at, values, refused)
            at += len(values) + (1 if error is not None else 0)
            if self._turns.is_due:
                await self._turns.give()

    def _note_corrections(
        self, topic: Topic[Any, Any], chunk: Chunk, base: int, values: Sequence[Any]
    ) -> None:
        for index, value in enumerate(values, base):
            if isinstance(value, Correction) and not self._is_replayed:
                fact = fact_of(Raw.at(chunk, index), topic)
                self.corrections.setdefault(value.corrects, []).append(fact)

    def _refused_in(self, chunk: Chunk, base: int, count: int) -> Mapping[int, frozenset[str]]:
        """Events of a run, by their index in it, that agents refused when they were handed them."""
        found: dict[int, frozenset[str]] = {}
        for index in range(count) if self._refused else ():
            left = self._refused.get((chunk.topic, chunk.offsets[base + index]))
            if left:
                found[index] = frozenset(agent for agent, times in left.items() if times > 0)
                left.subtract(found[index])
        return found

    async def _hand_out_accepted(
        self,
        run: AgentRun,
        chunk: Chunk,
        base: int,
        values: Sequence[Any],
        refused: Mapping[int, frozenset[str]],
    ) -> None:
        start = 0
        for index in sorted(refused):
            if refused[index] & {"", run.agent.name}:
                await self._hand_out(run, chunk, base, values[:index], start)
                start = index + 1
        await self._hand_out(run, chunk, base, values, start)

    async def _hand_out(
        self, run: AgentRun, chunk: Chunk, base: int, values: Sequence[Any], start: int
    ) -> None:
        while start < len(values):
            self._hand.take(run)
            run.stream.hand_out(chunk, values, float("inf"), base=base, start=start)
            try:
                await run.asked()
                return
            except AgentReturned:
                raise
            except HeadraceError:
                # What is left out of the fold is counted, and told with its result.
                self._hand.roll_back()
                self.failed += 1
                failed = run.stream.index
                self._forget(run, chunk.topic, chunk.offsets[base + failed])
                start = failed + 1
            finally:
                self._hand.release()
            run.cancel()
            await run.ended()
            await self._start(run)

    async def _apply(self) -> None:
        """Move what was written out of the agents' way, as bytes."""
        for rows in self._hand.tables():
            changed = rows.seal()
            items = iter(changed.items())
            while batch := rows.encode(islice(items, _APPLY_ROWS)):
                self._store.write(batch)
                if self._turns.is_due:
                    await self._turns.give()
            rows.applied(changed)

    # --- the row that is watched

    def _touch(self, row: bytes | None) -> None:
        """The event in hand has written the row."""
        run = self._hand.run
        place = run.stream.place_in_hand if run is not None else None
        assert run is not None
        assert place is not None
        touch = Touch(raw=Raw.at(*place), agent=run.agent.name, row=row, is_replayed=self._is_replayed)
        last = self.touches[-1] if self.touches else None
        if last is not None and (last.raw.place, last.raw.offset, last.agent) == (
            touch.raw.place,
            touch.raw.offset,
            touch.agent,
        ):
            self.touches.pop()  # an event that writes the row twice is told once
        else:
            self.touched += 1
        self.touches.append(touch)

    def _forget(self, run: AgentRun, topic: str, offset: int) -> None:
        """What a refused event wrote is as if it had not been."""
        last = self.touches[-1] if self.touches else None
        place = TopicPartition(topic, self._partition)
        if last is not None and (last.raw.place, last.raw.offset, last.agent) == (
            place,
            offset,
            run.agent.name,
        ):
            self.touches.pop()
            self.touched -= 1


class _Hand(Hand):
    """What the agents reach: tables of which one row is watched, and nowhere for what they send."""

    def __init__(
        self,
        group: Group,
        partition: int,
        watched: tuple[Table[Any, Any], Any],
        touch: Callable[[bytes | None], None],
        followed: Sequence[GlobalView],
        *,
        cache_rows_max: int,
    ) -> None:
        super().__init__(group, partition, cache_rows_max=cache_rows_max, followed=followed)
        self._watched = watched
        self._touch = touch

    def open_tables(self, store: Store) -> None:
        """Give the agents their tables over this store."""
        super().open_tables(store)
        table, key = self._watched
        self._rows[table] = _WatchedRows(table, key, self._touch, store, cache_rows_max=self._cache_rows_max)

    def roll_back(self) -> None:
        """Take back what the event in hand changed."""
        assert self._journal is not None
        self._journal.roll_back()

    def send(self, topic: Topic[Any, Any], **event: Any) -> Sent:
        """Drop an event: it was sent when its cause was handled."""
        run = self._running()
        return Sent(run.next_output(*run.stream.in_hand()))


class _WatchedRows(Rows):
    """The rows of a table; writes of one of them are told."""

    def __init__(
        self,
        table: Table[Any, Any],
        key: Any,
        touch: Callable[[bytes | None], None],
        store: Store,
        *,
        cache_rows_max: int,
    ) -> None:
        super().__init__(table.row_prefix, table.keys, table.values, store, cache_rows_max=cache_rows_max)
        self._key = key
        self._touch = touch

    def put(self, key: Any, value: Any, guard: KeyGuard) -> None:
        """Write a row. Raises: ForeignKey, UnencodableValue."""
        super().put(key, value, guard)
        if key == self._key:
            self._touch(self.values.encode(value))

    def remove(self, key: Any, guard: KeyGuard) -> None:
        """Delete a row. Raises: ForeignKey."""
        super().remove(key, guard)
        if key == self._key:
            self._touch(None)
