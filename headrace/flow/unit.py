"""The unit of work: what one run of events changed, until it is one transaction."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.events.position import Position
from headrace.flow.sending import Outbox
from headrace.flow.stream import SLICE_S
from headrace.log.port import Append, Outgoing
from headrace.tables.changelog import POSITION_KEY, InputPosition, PositionRecord, Reset, encode_position
from headrace.tables.rows import Rows
from headrace.tables.store import Row

_SLICE_ROWS = 128


class Unit:
    """What is collected while events are handed out."""

    def __init__(
        self,
        number: int,
        outbox: Outbox,
        inputs: Mapping[str, InputPosition],
        reset: Reset | None = None,
    ) -> None:
        self.number = number
        self.outbox = outbox
        self.inputs = dict(inputs)
        self._reset = reset
        self.events = 0

    def reached(self, topic: str, offset_next: int) -> None:
        """Note how far an input is finished by every agent."""
        self.inputs[topic] = InputPosition(self.inputs[topic].topic_id, offset_next)

    def record(self) -> PositionRecord:
        """The position record that ends the unit."""
        return PositionRecord(self.number, self.inputs, self._reset and self._reset.passed(self.inputs))


@dataclass(frozen=True, slots=True)
class SealedUnit:
    """A unit that takes no more writes: encoded, ready to be committed, then shown, then applied."""

    record: PositionRecord
    position: Position
    events: int
    rows: Sequence[Row]
    writes: Sequence[tuple[Rows, dict[Any, Any]]]
    """The same rows as the agents wrote them, by table."""
    appends: Sequence[Append]
    """Changelog first; its last record is the position record."""


async def seal(unit: Unit, tables: Iterable[Rows], *, changelog: str, partition: int) -> SealedUnit:
    """The unit encoded, in slices of under 2 ms. Raises: UnencodableValue."""
    writes = [(rows, changed) for rows in tables if (changed := rows.seal())]
    time_ms = int(time.time() * 1000)
    rows: list[Row] = []
    records: list[Outgoing] = []
    began = time.perf_counter()
    for table_rows, changed in writes:
        for row in table_rows.encode(changed):
            rows.append(row)
            records.append((row[0], row[1], (), time_ms))
            if not len(rows) % _SLICE_ROWS and time.perf_counter() - began > SLICE_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
    record = unit.record()
    records.append((POSITION_KEY, encode_position(record), (), time_ms))
    return SealedUnit(
        record=record,
        position=record.position(partition),
        events=unit.events,
        rows=rows,
        writes=writes,
        appends=[Append(changelog, partition, records), *unit.outbox.to_append()],
    )
