"""The cluster of a harness: it remembers all that was ever committed, and by which unit of work."""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from headrace.events.envelope import Headers, decode_envelope
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import replay_name
from headrace.log.port import Append, Chunk, Outgoing
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.tables.changelog import POSITION_KEY, InputPosition, PositionRecord
from headrace.testing.lookups import Handled

_REPLAY = replay_name("", "").removeprefix(".")
"""What the name of every group's replay input ends with."""


class Record(NamedTuple):
    """A committed record, also when compaction or retention has removed it since."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Run(NamedTuple):
    """Events of one input that were handed out one after the other: from `start` up to before `end`."""

    topic: str
    start: int
    end: int


@dataclass(slots=True)
class TaskHistory:
    """What one task of an app has committed, over all workers that ever held it."""

    changelog: TopicPartition
    rows: dict[bytes, bytes] = field(default_factory=dict)
    """The fold of the changelog: what the table rows must be."""
    unit: int = 0
    """Number of the last unit."""
    starts: dict[str, int] = field(default_factory=dict)
    """Where each input was first read."""
    ends: dict[str, int] = field(default_factory=dict)
    """How far each input is handled, by the last position record."""
    runs: list[Run] = field(default_factory=list)
    """Its events in the order in which they were handed out."""
    lookups: dict[Handled, list[Any]] = field(default_factory=dict)
    """What its events found in global tables."""
    outputs: list[tuple[TopicPartition, Outgoing]] = field(default_factory=list)
    """What its units sent, changelog apart."""


class Journal(SimulatedCluster):
    """A simulated cluster that forgets nothing, and notes what breaks a promise as it happens."""

    def __init__(self, name: str = "simulated") -> None:
        super().__init__(name)
        self.records: dict[TopicPartition, list[Record]] = {}
        self.tasks: dict[TopicPartition, TaskHistory] = {}
        """By changelog partition."""
        self.broken: list[str] = []
        """What must never be, as sentences."""
        self._output_ids: dict[str, set[bytes]] = {}

    def commit(
        self, transactional_id: str, epoch: int, appends: Sequence[Append]
    ) -> Mapping[TopicPartition, int]:
        """Append all of it or nothing, and remember it."""
        behind = super().commit(transactional_id, epoch, appends)
        self.note_records(appends, behind)
        return behind

    def note_records(self, appends: Sequence[Append], behind: Mapping[TopicPartition, int]) -> None:
        """Remember what was just committed, which ends at these offsets."""
        by_place: dict[TopicPartition, list[Outgoing]] = {}
        for topic, number, records in appends:
            by_place.setdefault(TopicPartition(topic, number), []).extend(records)
        for place, outgoing in by_place.items():
            kept = self.records.setdefault(place, [])
            for offset, (key, value, headers, timestamp_ms) in enumerate(
                outgoing, behind[place] - len(outgoing)
            ):
                insort(kept, Record(offset, timestamp_ms, key, value, headers), key=_offset)
                self._note_output(place, offset, headers)

    def _note_output(self, place: TopicPartition, offset: int, headers: Headers) -> None:
        if not any(name == "hr" or name == "ce_id" for name, _ in headers):
            return
        envelope = decode_envelope(headers)
        if envelope is None or not envelope.causation_id:
            return
        seen = self._output_ids.setdefault(place.topic, set())
        if envelope.event_id in seen and not any(n == "headrace-dead-topic" for n, _ in headers):
            self.broken.append(
                f"the event at {place.topic}/{place.partition}, offset {offset}, was sent twice"
            )
        seen.add(envelope.event_id)

    def history(self, changelog: TopicPartition) -> TaskHistory:
        """What the task with this changelog partition has committed."""
        return self.tasks.setdefault(changelog, TaskHistory(changelog))

    def between(self, place: TopicPartition, start: int, end: int) -> Sequence[Record]:
        """The records of a partition from `start` up to before `end`."""
        records = self.records.get(place, [])
        begin = bisect_left(records, start, key=_offset)
        return records[begin : bisect_left(records, end, lo=begin, key=_offset)]

    def folded(
        self, changelog: TopicPartition, offset_next: int
    ) -> tuple[Mapping[bytes, bytes], Mapping[str, InputPosition]]:
        """Rows and inputs as of the last unit before an offset of a changelog."""
        rows: dict[bytes, bytes] = {}
        unit: dict[bytes, bytes | None] = {}
        inputs: Mapping[str, InputPosition] = {}
        for record in self.between(changelog, 0, offset_next):
            assert record.key is not None
            if record.key != POSITION_KEY:
                unit[record.key] = record.value
                continue
            inputs = msgspec.json.decode(record.value or b"", type=PositionRecord).inputs
            for key, row in unit.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
            unit.clear()
        return rows, inputs

    @staticmethod
    def inputs_of(changelog: Append) -> Mapping[str, int]:
        """How far a unit has come in each input."""
        return {name: at.offset_next for name, at in _position_of(changelog).inputs.items()}

    def note_unit(self, appends: Sequence[Append], starts: Mapping[str, int]) -> None:
        """Remember a unit that was just committed, by a task that began to read at these offsets."""
        changelog, outputs = appends[0], appends[1:]
        history = self.history(TopicPartition(changelog.topic, changelog.partition))
        record = _position_of(changelog)
        where = f"{changelog.topic}/{changelog.partition}"
        if record.unit != history.unit + 1:
            self.broken.append(f"unit {record.unit} follows unit {history.unit} in {where}")
        history.unit = record.unit
        for key, value, _, _ in changelog.records[:-1]:
            assert key is not None
            if value is None:
                history.rows.pop(key, None)
            else:
                history.rows[key] = value
        for name, at in record.inputs.items():
            history.starts.setdefault(name, starts.get(name, 0))
            if at.offset_next < history.ends.get(name, history.starts[name]):
                self.broken.append(f"the position of {name} fell to {at.offset_next} in {where}")
        # What is left of an input behind the order that the unit tells holds no event.
        for name, end in (*record.runs, *((name, at.offset_next) for name, at in record.inputs.items())):
            begin = history.ends.get(name, history.starts[name])
            if begin < end:
                history.runs.append(Run(name, begin, end))
                history.ends[name] = end
        history.ends.update({name: at.offset_next for name, at in record.inputs.items()})
        for topic, number, records in outputs:
            history.outputs += [(TopicPartition(topic, number), each) for each in records]


def chunk_of(place: TopicPartition, records: Sequence[Record], offset_next: int) -> Chunk:
    """Records of one partition as a reader gives them."""
    return Chunk(
        place.topic,
        place.partition,
        [record.offset for record in records],
        [record.timestamp_ms for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.headers for record in records],
        offset_next=offset_next,
        high_watermark=offset_next,
    )


def is_replay(topic: str) -> bool:
    """Whether a topic is the hidden input of a group, which brings dead letters back."""
    return topic.endswith(_REPLAY)


def is_unit(appends: Sequence[Append]) -> bool:
    """Whether a transaction is a task's unit of work: it ends its changelog with a position record."""
    return bool(appends and appends[0].records and appends[0].records[-1][0] == POSITION_KEY)


def _position_of(changelog: Append) -> PositionRecord:
    return msgspec.json.decode(changelog.records[-1][1] or b"", type=PositionRecord)


def _offset(record: Record) -> int:
    return record.offset
