"""Rebuilding tables from their inputs: the position goes back to the beginning, outputs are not sent twice.

The order is the protocol, per task: (1) the writer, which fences; (2) one unit that says it all: inputs
at their beginning, muted up to where they were, rows still to be cleared; (3) the rows, deleted. From (2)
on the reset happens, whoever finishes it: a take-over that finds (3) undone does it before any event.
"""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from headrace.clock import Clock
from headrace.errors import AlreadyRunning, OffsetOutOfRange, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.flow.clearing import cleared, commit
from headrace.flow.group import Group
from headrace.flow.restore import Restore
from headrace.flow.takeover import transactional_id
from headrace.log.port import Log, OffsetRange, TopicInfo
from headrace.tables.changelog import InputPosition, PositionRecord, Reset, input_offsets
from headrace.tables.memory import MemoryStore
from headrace.tables.view import PartitionView


@dataclass(frozen=True, slots=True)
class ResetTask:
    """What the reset of one partition did."""

    partition: int
    rows: int
    """Rows that are deleted."""
    inputs: Mapping[str, int]
    """Where each input is read from next."""
    muted_until: Mapping[str, int]
    """Up to there nothing is sent again."""


async def refuse_running(log: Log, app: str) -> None:
    """Raises: AlreadyRunning while a worker of the app runs."""
    if workers := await log.workers(app):
        raise AlreadyRunning(
            f"a reset needs {app} to itself, and {len(workers)} worker(s) of it run: {', '.join(workers)}",
            hint="Stop them and try again; one that was killed is forgotten within its session time-out.",
        )


async def refuse_loss(log: Log, group: Group) -> None:
    """Raises: OffsetOutOfRange when an input does not hold its first events any more."""
    for partition in range(group.partitions):
        places = [TopicPartition(name, partition) for name in group.inputs]
        for place, held in (await log.offsets(places)).items():
            if held.start > 0:
                raise OffsetOutOfRange(
                    f"the input begins at offset {held.start}: what was folded from the events before it "
                    "would be missing from the tables",
                    topic=place.topic,
                    partition=place.partition,
                    hint="With --from-what-is-left the tables are rebuilt from the events that are left.",
                )


async def reset_task(
    app: str,
    group: Group,
    partition: int,
    *,
    log: Log,
    clock: Clock,
    takes_what_is_left: bool = False,
) -> ResetTask:
    """Reset one task.

    Units: the rows of the partition are held in memory meanwhile. Cancel, or a crash: before the
    first unit nothing has happened, after it a take-over or another reset finishes it. Raises:
    LogError, Fenced when a worker took the task over; TopicMismatch for an input that was recreated.
    """
    writer = await log.writer(transactional_id(app, group.name, partition))
    try:
        changelog = TopicPartition(group.changelog, partition)
        topics = await log.describe([group.changelog, *group.inputs, group.replay])
        ranges = await log.offsets([TopicPartition(name, partition) for name in topics])
        store = MemoryStore()
        changelog_id = topics[group.changelog].topic_id
        restore = Restore(store, changelog, changelog_id, PartitionView(group.name, partition), clock)
        await restore.run(log, ranges[changelog], may_be_cut=True)
        record = _first_record(
            group, topics, ranges, changelog, restore.last, takes_what_is_left=takes_what_is_left
        )
        await commit(writer, changelog, record, (), clock)
        rows = 0
        async with aclosing(cleared(writer, changelog, record, store, clock)) as units:
            async for unit in units:
                rows += len(unit.rows)
    finally:
        await writer.close()
    assert record.reset is not None
    inputs = {name: at.offset_next for name, at in record.inputs.items()}
    return ResetTask(partition, rows, inputs, record.reset.muted_until)


def _first_record(
    group: Group,
    topics: Mapping[str, TopicInfo],
    ranges: Mapping[TopicPartition, OffsetRange],
    changelog: TopicPartition,
    last: PositionRecord | None,
    *,
    takes_what_is_left: bool,
) -> PositionRecord:
    """The unit that begins the reset: where inputs are read from, and up to where they are muted."""
    known = input_offsets(last)
    muted_before = last.reset.muted_until if last and last.reset else {}
    inputs: dict[str, InputPosition] = {}
    muted: dict[str, int] = {}
    for name in (name for name in topics if name != group.changelog):
        held, topic_id, at = (
            ranges[TopicPartition(name, changelog.partition)],
            topics[name].topic_id,
            known.get(name),
        )
        # Replayed dead letters are not read again: their events are, in the inputs they come from.
        start = held.end if name == group.replay else held.start
        inputs[name] = InputPosition(topic_id, start)
        if at is None:
            continue
        if at.topic_id == topic_id:
            # Beyond its end there are events that nobody has seen: an input that lost its end grows again.
            until = min(max(at.offset_next, muted_before.get(name, 0)), held.end)
            muted |= {name: until} if until > start else {}
        elif not takes_what_is_left:
            raise TopicMismatch(
                "this input was recreated: the events that the tables were folded from are gone",
                topic=name,
                partition=changelog.partition,
                hint="With --from-what-is-left the tables are rebuilt from the events of the new topic.",
            )
    reset = Reset(muted_until=muted, changelog_start=ranges[changelog].start, is_clearing=True)
    return PositionRecord((last.unit if last else 0) + 1, inputs, reset)
