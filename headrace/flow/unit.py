"""The unit of work: what one run of events changed, until it is one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headrace.errors import RecordTooLarge, UnencodableValue
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN
from headrace.flow.deadletter import Letter
from headrace.flow.figures import AgentFigures
from headrace.flow.group import Group
from headrace.flow.sending import Outbox, record_bytes
from headrace.log.port import Append, Chunk, Outgoing
from headrace.tables.changelog import POSITION_KEY, InputPosition, PositionRecord, Reset, encode_position
from headrace.tables.rows import Rows
from headrace.tables.watch import WriteNotes
from headrace.turns import Turns

_SLICE_ROWS = 128


class Unit:
    """What is collected while events are handed out."""

    def __init__(
        self,
        number: int,
        outbox: Outbox,
        inputs: Mapping[str, InputPosition],
        *,
        reset: Reset | None = None,
        parked: Mapping[str, InputPosition] | None = None,
        dead_letters: str = "",
        dead_letter_bytes_max: int | None = None,
    ) -> None:
        self.number = number
        self.outbox = outbox
        self.inputs = dict(inputs)
        self._reset = reset
        self._runs: list[tuple[str, int]] = []
        self.seen = NOTHING_SEEN
        """What its rows contain beyond its inputs."""
        self.seen_record = b""
        """The same, as the position record has it."""
        self.events = 0
        self.place = ("", -1)
        """Input and offset of its last event."""
        self.agents: dict[str, AgentFigures] = {}
        """What each agent did in it."""
        self.dead_letters = 0
        self.notes: WriteNotes | None = None
        """What it writes to rows that are watched; None: no table of the group may be."""
        self._parked = parked or {}
        self._dead_letters = dead_letters
        self._dead_letter_bytes_max = dead_letter_bytes_max

    def of(self, agent: str) -> AgentFigures:
        """The figures of an agent."""
        if agent not in self.agents:
            self.agents[agent] = AgentFigures()
        return self.agents[agent]

    def finished(self, chunk: Chunk, events: int) -> None:
        """Note how far an input is finished by every agent: so many events of this chunk."""
        topic = chunk.topic
        offset_next = chunk.offsets[events] if events < len(chunk) else chunk.offset_next
        self.inputs[topic] = InputPosition(self.inputs[topic].topic_id, offset_next)
        self.events += events
        if events:
            self.place = (topic, chunk.offsets[events - 1])
            if self._runs and self._runs[-1][0] == topic:
                self._runs.pop()
            self._runs.append((topic, offset_next))

    def bury(self, letter: Letter, *, by: Iterable[str]) -> None:
        """Put a dead letter in. Raises: RecordTooLarge when the dead-letter topic does not take it."""
        headers = letter.to_headers()
        size = record_bytes(letter.key, letter.value, headers)
        if self._dead_letter_bytes_max is not None and size > self._dead_letter_bytes_max:
            raise RecordTooLarge(
                f"an event was refused ({letter.error}: {letter.reason}), and as a dead letter it has {size} "
                f"bytes, where {self._dead_letters} takes {self._dead_letter_bytes_max}",
                hint=f"Raise max.message.bytes of {self._dead_letters}, then restart the worker.",
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.offset,
            )
        record = (letter.key, letter.value, headers, letter.at_ms)
        self.outbox.put(self._dead_letters, letter.partition, record)
        self.dead_letters += 1
        for agent in by:
            self.of(agent).dead_letters += 1

    def position(self, partition: int, *, hidden: str) -> Position:
        """How far its inputs are, but for one that only the task knows of."""
        inputs = self.inputs.items()
        return Position({TopicPartition(t, partition): at.offset_next for t, at in inputs if t != hidden})

    def record(self) -> PositionRecord:
        """The position record that ends the unit."""
        inputs = {**self._parked, **self.inputs}
        reset = self._reset and self._reset.passed(inputs)
        return PositionRecord(self.number, inputs, reset, self.seen_record, self._order())

    def _order(self) -> tuple[tuple[str, int], ...]:
        """The order of its events across inputs, unless its inputs alone tell it."""
        return tuple(self._runs) if len(self._runs) > 1 else ()


@dataclass(frozen=True, slots=True)
class SealedUnit:
    """A unit that takes no more writes: encoded, ready to be committed, then shown, then applied."""

    record: PositionRecord
    position: Position
    unit: Unit
    rows: dict[bytes, bytes | None]
    """By store key, as readers see them; None where one is deleted."""
    rows_bytes: int
    """What the rows take."""
    writes: Sequence[tuple[Rows, dict[Any, Any]]]
    """The same rows as the agents wrote them, by table."""
    appends: Sequence[Append]
    """Changelog first; its last record is the position record."""


async def seal(
    unit: Unit, tables: Iterable[Rows], *, group: Group, partition: int, time_ms: int
) -> SealedUnit:
    """The unit encoded, in slices.

    Raises: UnencodableValue, and then the unit's writes are forgotten.
    """
    writes = [(rows, changed) for rows in tables if (changed := rows.seal())]
    rows: dict[bytes, bytes | None] = {}
    records: list[Outgoing] = []
    try:
        rows_bytes = await _encode(writes, rows, records, time_ms)
    except UnencodableValue:
        for table_rows, changed in writes:
            table_rows.unseal(changed)
        raise
    record = unit.record()
    records.append((POSITION_KEY, encode_position(record), (), time_ms))
    return SealedUnit(
        record=record,
        position=unit.position(partition, hidden=group.replay),
        unit=unit,
        rows=rows,
        rows_bytes=rows_bytes,
        writes=writes,
        appends=[Append(group.changelog, partition, records), *unit.outbox.to_append()],
    )


async def _encode(
    writes: Sequence[tuple[Rows, dict[Any, Any]]],
    rows: dict[bytes, bytes | None],
    records: list[Outgoing],
    time_ms: int,
) -> int:
    """Put what was written into the rows and the changelog's records; how many bytes it is."""
    rows_bytes = 0
    with Turns() as turns:
        for table_rows, changed in writes:
            items = iter(changed.items())
            while part := table_rows.encode(islice(items, _SLICE_ROWS)):
                rows.update(part)
                for key, row in part:
                    records.append((key, row, (), time_ms))
                    rows_bytes += len(key) + len(row or b"")
                if turns.is_due:
                    await turns.give()
    return rows_bytes
