"""What the agents of a task reach without being given it: the task's tables, and where `send` goes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.errors import NotSupported, OutsideAgent
from headrace.events.envelope import Envelope, EnvelopeFormat, Headers, encode_output
from headrace.flow.agent import AgentRun
from headrace.flow.causality import TaskSeen
from headrace.flow.figures import AgentFigures
from headrace.flow.group import Group
from headrace.flow.sending import Sent
from headrace.flow.sink import OpenSink
from headrace.flow.topic import Topic
from headrace.flow.unit import Unit
from headrace.log.port import Chunk
from headrace.tables.followedrows import FollowedRows
from headrace.tables.globaltable import GlobalTable
from headrace.tables.globalview import GlobalView
from headrace.tables.journal import Journal
from headrace.tables.notedrows import NotedRows
from headrace.tables.rows import KeyGuard, Rows, RowsInHand
from headrace.tables.store import Store
from headrace.tables.table import Table
from headrace.tables.watch import PartitionWatch, Write


class Hand:
    """One event in one agent's hand at a time; set in the context of the task's agents."""

    def __init__(
        self,
        group: Group,
        partition: int,
        *,
        cache_rows_max: int,
        followed: Sequence[GlobalView] = (),
        watch: PartitionWatch | None = None,
    ) -> None:
        self.guard = KeyGuard(group.partitioner, partition, group.partitions)
        self.is_open = False
        """Whether an event is in hand: tables can be written."""
        self.run: AgentRun | None = None
        self.muted_until: Mapping[str, int] = {}
        """Input to offset: the outputs of the events before it were sent before a reset."""
        self.sink: OpenSink | None = None
        """What the agents write instead of tables; None: nothing, or the task is not taken over."""
        self.seen: TaskSeen | None = None
        """What the task has seen; None before it is taken over."""
        self.is_replaying = False
        """Whether the event in hand is a dead letter that was brought back; its outputs were never sent."""
        self.group = group
        self.partition = partition
        self._unit: Unit | None = None
        self._figures = AgentFigures()
        """What the agent at work did in the unit."""
        self._journal: Journal | None = None
        self._cache_rows_max = cache_rows_max
        self._watch = watch if any(table.is_watched for table in group.tables) else None
        self._rows: dict[Table[Any, Any], Rows] = {}
        self._followed = {view.group: view for view in followed}
        self._followed_rows: dict[Table[Any, Any], FollowedRows] = {}

    def open_tables(self, store: Store) -> None:
        """Give the agents their tables over this store."""
        self._rows = {table: self._rows_of(table, store) for table in self.group.tables}

    def _rows_of(self, table: Table[Any, Any], store: Store) -> Rows:
        rows_max = self._cache_rows_max
        if self._watch is not None and table.is_watched:
            watched = self._watch.keys_of(table.row_prefix)
            return NotedRows(table, store, watched, self._note, cache_rows_max=rows_max)
        return Rows(table.row_prefix, table.keys, table.values, store, cache_rows_max=rows_max)

    def begin(self, unit: Unit) -> None:
        """What is written and sent from here on belongs to this unit."""
        self._unit = unit
        if self._watch is not None:
            unit.notes = self._watch.begin()

    def _note(self, store_key: bytes, row: bytes | None) -> None:
        """The event in hand has written a row that is watched."""
        assert self._unit is not None
        assert self._unit.notes is not None
        place = self._running().stream.place_in_hand
        if place is None or self._journal is not None or self.is_replaying:
            # It may be taken back, or has its offset of long ago: what is known is how the unit ends.
            self._unit.notes.blur(store_key)
            return
        chunk, index = place
        self._unit.notes.wrote(store_key, Write(chunk.topic, chunk.offsets[index], row))

    def guard_events(self, *, is_guarded: bool) -> None:
        """Whether what the event in hand changes can be taken back by itself."""
        self._journal = Journal(self._index_in_hand) if is_guarded else None
        for rows in self._rows.values():
            rows.journal = self._journal
        if self.sink is not None:
            self.sink.guard(self._index_in_hand if is_guarded else None)

    def _index_in_hand(self) -> int:
        return self.run.stream.index if self.run is not None else -1

    def roll_back(self) -> None:
        """Take back what the event in hand changed."""
        assert self._journal is not None
        assert self._unit is not None
        for place in self._journal.roll_back():
            self._unit.outbox.take_back(place)
        if self.sink is not None:
            self.sink.roll_back()

    def tables(self) -> Iterable[Rows]:
        """The rows of every table of the task."""
        return self._rows.values()

    def of(self, table: Table[Any, Any]) -> RowsInHand:
        """The rows of a table. Raises: OutsideAgent for a table of another group that is not global."""
        rows = self._rows.get(table) or self._followed_rows.get(table) or self._follow(table)
        if rows is None:
            raise OutsideAgent(
                f"table {table.name} belongs to group {table.group}, the agent to group {self.group.name}",
                hint="Give both the same group=, or send an event to an agent of the table's group.",
            )
        return rows

    def _follow(self, table: Table[Any, Any]) -> FollowedRows | None:
        view = self._followed.get(table.group)
        if view is None or not isinstance(table, GlobalTable):
            return None
        rows = FollowedRows(
            table,
            view,
            reader=self.group.name,
            cache_rows_max=self._cache_rows_max,
            on_look=self._look_at_followed,
        )
        self._followed_rows[table] = rows
        return rows

    def _look_at_followed(self) -> None:
        if self.seen is not None:
            self.seen.look_at_followed()

    def take(self, run: AgentRun) -> None:
        """An agent begins a run of events."""
        self.run, self.is_open = run, True
        if self._unit is not None:
            self._figures = self._unit.of(run.agent.name)
        if self.sink is not None:
            self.sink.is_open = True
        if self._journal is not None:
            self._journal.keep()

    def release(self) -> None:
        """The agent asked for its next run."""
        self.run, self.is_open = None, False
        if self.sink is not None:
            self.sink.is_open = False

    def key_in_hand(self) -> bytes | None:
        """The record key of the event in hand. Raises: OutsideAgent between events."""
        place = self._running().stream.place_in_hand
        return place[0].keys[place[1]] if place else None

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
        """Put an event into the unit's outbox. Raises: RecordTooLarge, OutsideAgent between events."""
        run = self._running()
        if self.sink is not None:
            raise NotSupported(
                "an agent that writes a database sends nothing: the two could not be committed together",
                hint="Send from an agent of another group on the same topic.",
            )
        assert self._unit is not None
        chunk, index = run.stream.in_hand()
        outbox = self._unit.outbox
        stamp = self.seen.stamp(chunk.topic, chunk.offsets[index]) if self.seen is not None else b""
        event_id, time_ms = run.next_output(chunk, index), outbox.now_ms()
        if topic.envelope is EnvelopeFormat.COMPACT:
            written: Headers = encode_output(event_id, time_ms, run.causes, stamp)
        else:
            envelope = Envelope(event_id, time_ms, run.causes[:16], run.causes[16:], stamp)
            written = outbox.encoded(topic, envelope, type_name)
        if more := run.trace.sent(topic.name, headers, chunk.headers[index]):
            written = (*written, *more)
        place = outbox.add(
            topic,
            key,
            value,
            written,
            partition=partition,
            keyless_partition=self.partition,
            time_ms=time_ms if timestamp_ms is None else timestamp_ms,
        )
        if self.muted_until and self._is_muted(chunk, index):
            # Only now: what was refused when it was first sent must be refused again.
            outbox.take_back(place)
            return Sent(event_id)
        if self._journal is not None:
            self._journal.sent(place)
        self._figures.sent += 1
        return Sent(event_id)

    def _is_muted(self, chunk: Chunk, index: int) -> bool:
        return not self.is_replaying and chunk.offsets[index] < self.muted_until.get(chunk.topic, 0)

    def _running(self) -> AgentRun:
        if self.run is None or not self.is_open:
            raise OutsideAgent(
                "an agent sent an event while none was in its hand",
                hint="Send while handling an event, not from a task that outlives it.",
            )
        return self.run
