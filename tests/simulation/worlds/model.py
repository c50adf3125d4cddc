"""What the tables must be: the recorded order of hand-out, folded without headrace, unit by unit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter
from headrace.log.port import Append
from headrace.tables.changelog import PositionRecord
from headrace.tables.table import Table
from headrace.testing.journal import Journal, Record
from headrace.testing.lookups import Handled
from tests.simulation.worlds.events import (
    ALWAYS_REFUSED,
    MAY_BE_REFUSED,
    Note,
    Order,
    Output,
    Rated,
    Rows,
    Shop,
)

TYPES: Mapping[str, Any] = {"orders": Order, "notes": Note, "ratings": Rated}
LETTERS = "shop.dead-letters"
_encode = msgspec.json.encode


@dataclass
class Standing:
    """A task after one of its units."""

    unit: int
    inputs: Mapping[str, int]
    rows: Mapping[bytes, bytes]


@dataclass
class TaskModel:
    """One task over all its owners."""

    place: TopicPartition
    rows: Rows = field(default_factory=dict)
    raw: dict[bytes, bytes] = field(default_factory=dict)
    """The same as the store has them."""
    unit: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    muted: Mapping[str, int] = field(default_factory=dict)
    is_clearing: bool = False
    history: list[Standing] = field(default_factory=list)
    handled: int = 0


class Model:
    """Follows every task of the app; what must not be is noted as sentences."""

    def __init__(self, shop: Shop, tell: Callable[[str], None]) -> None:
        self.broken: list[str] = []
        self.tasks: dict[TopicPartition, TaskModel] = {}
        self.tell = tell
        self.refused: set[tuple[str, int, int]] = set()
        """Topic, partition and offset of events that ended as dead letters."""
        self._tables: Mapping[str, Table[Any, Any]] = {}
        self._agents: Mapping[str, Mapping[str, Sequence[tuple[str, Any]]]] = {
            "shop.main.changelog": {
                "orders": (("book", shop.book), ("count", shop.count)),
                "notes": (("collect", shop.collect),),
            },
            "shop.archive.changelog": {"notes": (("archive", shop.archive),)},
            "shop.rates.changelog": {"ratings": (("rate", shop.rate),)},
            "shop.applier.changelog": {"notes": ()},
        }
        self._starts: dict[str, int] = {}

    def know(self, tables: Mapping[str, Table[Any, Any]]) -> None:
        """The tables by name, for how their keys are stored."""
        self._tables = tables

    def task(self, place: TopicPartition) -> TaskModel:
        """The task with this changelog partition."""
        return self.tasks.setdefault(place, TaskModel(place))

    # --- units

    def take_unit(
        self, appends: Sequence[Append], found: Mapping[Handled, Sequence[Any]], journal: Journal
    ) -> None:
        """Hold a committed unit to what its events make."""
        changelog, outputs = appends[0], appends[1:]
        task = self.task(TopicPartition(changelog.topic, changelog.partition))
        record = msgspec.json.decode(changelog.records[-1][1] or b"", type=PositionRecord)
        where = f"{task.place.topic}/{task.place.partition} unit {record.unit}"
        inputs = {name: at.offset_next for name, at in record.inputs.items()}
        self.tell(f"{where}: {inputs}, {sum(len(each.records) for each in appends)} records")
        # Where a sink was ahead of the log, the log never gets the unit that only the sink had.
        may_skip = task.place.topic == "shop.applier.changelog" and record.unit > task.unit
        if record.unit != task.unit + 1 and not may_skip:
            self.broken.append(f"{where} follows unit {task.unit}")
        task.unit = record.unit
        written = {key: value for key, value, _, _ in changelog.records[:-1] if key is not None}
        if self._is_of_reset(task, record, written, where):
            return
        self._hold_events(task, record, inputs, written, outputs, found, journal, where)
        task.muted = record.reset.muted_until if record.reset else {}
        task.ends.update(inputs)
        self._keep(task, inputs)

    def _keep(self, task: TaskModel, inputs: Mapping[str, int]) -> None:
        task.history.append(Standing(task.unit, inputs, dict(task.raw)))

    def _is_of_reset(
        self,
        task: TaskModel,
        record: PositionRecord,
        written: Mapping[bytes, bytes | None],
        where: str,
    ) -> bool:
        """Follow a unit that begins a reset, or deletes rows for one."""
        reset = record.reset
        begins = reset is not None and reset.is_clearing and not written and not task.is_clearing
        again = reset is not None and reset.is_clearing and not written
        if not (begins or again or task.is_clearing):
            return False
        assert reset is not None
        if any(value is not None for value in written.values()):
            self.broken.append(f"{where} writes rows in a reset")
        for key in written:
            if task.raw.pop(key, None) is None:
                self.broken.append(f"{where} deletes a row that is not there: {key!r}")
        task.ends = {name: at.offset_next for name, at in record.inputs.items()}
        task.muted, task.is_clearing = reset.muted_until, reset.is_clearing
        if not reset.is_clearing:
            if task.raw:
                self.broken.append(f"{where} ends a reset, and {len(task.raw)} rows are left")
            task.rows.clear()
        task.history.clear()
        self._keep(task, task.ends)
        return True

    def _hold_events(
        self,
        task: TaskModel,
        record: PositionRecord,
        inputs: Mapping[str, int],
        written: Mapping[bytes, bytes | None],
        outputs: Sequence[Append],
        found: Mapping[Handled, Sequence[Any]],
        journal: Journal,
        where: str,
    ) -> None:
        letters = self._letters(outputs, task)
        changed: Rows = {}
        sent: list[tuple[str, Output]] = []
        left = dict(letters)
        for topic, end in (*record.runs, *inputs.items()):
            begin = task.ends.setdefault(topic, 0)
            if end < begin:
                self.broken.append(f"{where}: the position of {topic} falls from {begin} to {end}")
            for event in journal.between(TopicPartition(topic, task.place.partition), begin, end):
                refusers = left.pop((topic, event.offset), [])
                self._handle(task, topic, event, refusers, found, changed, sent, where)
            task.ends[topic] = max(begin, end)
        for (topic, offset), refusers in left.items():
            self.broken.append(f"{where} refuses {topic} {offset} for {refusers}, which is not in it")
        self._compare_rows(task, changed, written, where)
        self._compare_outputs(sent, outputs, where)

    def _letters(self, outputs: Sequence[Append], task: TaskModel) -> dict[tuple[str, int], list[str]]:
        found: dict[tuple[str, int], list[str]] = {}
        for append in outputs:
            if append.topic == LETTERS:
                for key, value, headers, _ in append.records:
                    letter = Letter.parse(key, value, headers)
                    assert letter is not None, "a dead letter can be read"
                    found.setdefault((letter.topic, letter.offset), []).append(letter.agent)
                    self.refused.add((letter.topic, letter.partition, letter.offset))
        return found

    def _handle(
        self,
        task: TaskModel,
        topic: str,
        event: Record,
        refusers: Sequence[str],
        found: Mapping[Handled, Sequence[Any]],
        changed: Rows,
        sent: list[tuple[str, Output]],
        where: str,
    ) -> None:
        task.handled += 1
        agents = self._agents.get(task.place.topic, {}).get(topic, ())
        try:
            value = msgspec.json.decode(event.value or b"", type=TYPES[topic])
        except msgspec.MsgspecError:
            if refusers != [""]:
                self.broken.append(f"{where} takes {topic} {event.offset}, which cannot be read: {refusers}")
            return
        how = getattr(value, "how", "plain")
        booked = task.place.topic == "shop.main.changelog"
        if refusers and (how not in ALWAYS_REFUSED | MAY_BE_REFUSED or not booked):
            self.broken.append(f"{where} refuses {value} for {refusers}")
        is_muted = event.offset < task.muted.get(topic, 0)
        # What the log would refuse is not sent a second time, so a reset may take such an event.
        must_refuse = ALWAYS_REFUSED - {"refused"} if is_muted else ALWAYS_REFUSED
        if booked and how in must_refuse and refusers not in (["book"], [""]):
            self.broken.append(f"{where} takes {value}, which is always refused: {refusers}")
        for name, fold in agents:
            if name in refusers or "" in refusers:
                continue

            def looked_up(agent: str) -> Sequence[Any]:
                return found.get(Handled(agent, topic, event.offset, False), ())

            rows, outputs = fold(task.rows, value, looked_up)
            for key, row in rows.items():
                changed[key] = row
                if row is None:
                    task.rows.pop(key, None)
                else:
                    task.rows[key] = row
            if not is_muted:
                sent += [(name, output) for output in outputs]

    def _compare_rows(
        self, task: TaskModel, changed: Rows, written: Mapping[bytes, bytes | None], where: str
    ) -> None:
        expected = {
            self._store_key(table, key): None if row is None else _encode(row)
            for (table, key), row in changed.items()
        }
        for store_key in expected.keys() | written.keys():
            must, is_ = expected.get(store_key, b"-"), written.get(store_key, b"-")
            if must != is_:
                self.broken.append(f"{where}: {store_key!r} is {is_!r}, and by the fold {must!r} (-: absent)")
        for store_key, row in expected.items():
            if row is None:
                task.raw.pop(store_key, None)
            else:
                task.raw[store_key] = row

    def _store_key(self, table: str, key: int) -> bytes:
        declared = self._tables[table]
        return declared.row_prefix + declared.keys.to_store(key)

    def _compare_outputs(
        self, sent: Iterable[tuple[str, Output]], outputs: Sequence[Append], where: str
    ) -> None:
        must: dict[str, list[tuple[bytes, bytes]]] = {}
        for _, output in sent:
            must.setdefault(output.topic, []).append((b"%d" % output.key, _encode(output.value)))
        is_: dict[str, list[tuple[bytes, bytes]]] = {}
        for append in outputs:
            if append.topic != LETTERS:
                records = [(key or b"", value or b"") for key, value, _, _ in append.records]
                is_.setdefault(append.topic, []).extend(records)
        for topic in must.keys() | is_.keys():
            if sorted(must.get(topic, [])) != sorted(is_.get(topic, [])):
                self.broken.append(
                    f"{where} sends to {topic} {is_.get(topic)}, and by its events {must.get(topic)}"
                )

    # --- what readers see

    def expected(
        self, place: TopicPartition, position: Mapping[str, int], journal: Journal
    ) -> Mapping[bytes, bytes] | None:
        """The rows that stand for a position; None when no unit is there, with a sentence noted."""
        task = self.task(place)
        for standing in reversed(task.history):
            if all(position.get(name, 0) >= at for name, at in standing.inputs.items() if name in position):
                for name, at in position.items():
                    since = standing.inputs.get(name, 0)
                    if journal.between(TopicPartition(name, place.partition), since, at):
                        self.broken.append(
                            f"{place.topic}/{place.partition} shows position {dict(position)}, and its last "
                            f"unit before that is {standing.unit} at {dict(standing.inputs)}"
                        )
                        return None
                return standing.rows
        return {} if not task.history else None
