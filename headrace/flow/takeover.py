"""Taking a task over: fence older holders, catch the store up with its changelog, know the position.

The order is the protocol: (1) the writer, which fences; (2) the changelog up to the end it has
then; (3) the inputs. So nothing can be appended behind the reader's back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NoReturn

from headrace.clock import Clock
from headrace.errors import OffsetOutOfRange, TopicMismatch
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.clearing import cleared
from headrace.flow.group import Group
from headrace.flow.opening import close_store, open_trusted
from headrace.flow.restore import Restore
from headrace.log.port import Append, Log, OffsetRange, TopicInfo, Writer
from headrace.tables.changelog import (
    InputPosition,
    PositionRecord,
    Reset,
    StoreMark,
    encode_mark,
    input_offsets,
)
from headrace.tables.store import Store, StoreEngine
from headrace.tables.view import PartitionView


@dataclass(slots=True)
class Held:
    """A task that was taken over: its writer and its store, which stands at `inputs`."""

    writer: Writer
    store: Store
    changelog_id: str
    unit: int
    inputs: Mapping[str, InputPosition]
    reset: Reset | None
    """What the last reset left to be heeded."""
    is_position_durable: bool
    """False when an input starts where nothing in the changelog says so yet."""
    clock: Clock
    parked: Mapping[str, InputPosition] = field(default_factory=dict)
    """Inputs that the group once had: where to go on should it have them again."""
    seen: Seen = NOTHING_SEEN
    """What the rows contain beyond their inputs."""
    is_sink_ahead: bool = False
    """Whether a sink has the next unit already: the log is only told of it."""
    letters: Sequence[Append] = ()
    """Dead letters of that unit, which the log does not have yet."""

    def position(self, partition: int, *, hidden: str = "") -> Position:
        """The position of the store's rows in its inputs, but for one that only the task knows of."""
        inputs = self.inputs.items()
        return Position({TopicPartition(t, partition): at.offset_next for t, at in inputs if t != hidden})

    def mark(self, record: PositionRecord, changelog_offset_next: int) -> bytes:
        """The mark of a store that has this unit, and with it all of the changelog up to there."""
        at_ms = int(self.clock.time() * 1000)
        return encode_mark(StoreMark(self.changelog_id, changelog_offset_next, record, at_ms=at_ms))

    def check_store(self) -> None:
        """Raises: StoreCorrupt once anybody found the store damaged, even if an agent hid the error."""
        self.store.damage.check()

    async def watch_store(self) -> NoReturn:
        """Raises: StoreCorrupt as soon as a read or write of anybody, in any thread, finds damage."""
        loop, found = asyncio.get_running_loop(), asyncio.Event()
        self.store.damage.watch(lambda: loop.call_soon_threadsafe(found.set))
        await found.wait()
        self.check_store()
        raise AssertionError("damage is noted before it is told of")

    async def close(self) -> None:
        """Let go of writer and store."""
        try:
            await self.writer.close()
        finally:
            await close_store(self.store)


def transactional_id(app: str, group: str, partition: int) -> str:
    """The id under which the owner of a task writes, and which fences older owners."""
    return f"{app}-{group}-{partition}"


async def take_over(
    app: str,
    group: Group,
    partition: int,
    *,
    log: Log,
    engine: StoreEngine,
    topics: Mapping[str, TopicInfo],
    view: PartitionView,
    clock: Clock,
) -> Held:
    """The task, fenced and caught up.

    A damaged store is moved aside and rebuilt, here and nowhere else. A reset that was not finished
    is finished. Cancel: the store keeps how far it came, the next take-over goes on there. Raises:
    LogError, StoreInUse; OffsetOutOfRange and TopicMismatch when the log is not the one the store
    and the position record speak of; StoreCorrupt when the new store is damaged, too.
    """
    writer = await log.writer(transactional_id(app, group.name, partition))
    try:
        await verify_identities(log, [group.changelog, *group.inputs], topics)
        changelog = TopicPartition(group.changelog, partition)
        changelog_id = topics[group.changelog].topic_id
        known = (await log.offsets([changelog]))[changelog]
        store = await open_trusted(
            engine, group.name, partition, changelog_id=changelog_id, held=known, clock=clock
        )
        try:
            restore = Restore(store, changelog, changelog_id, view, clock)
            await restore.run(log, known)
            held = Held(writer, store, changelog_id, 0, {}, None, False, clock)
            last = await _cleared(held, changelog, restore.last)
            held.inputs, held.is_position_durable = await _starting_inputs(
                log, group, partition, topics, last
            )
            known_inputs = input_offsets(last).items()
            held.parked = {name: at for name, at in known_inputs if name not in held.inputs}
            if last is not None:
                held.unit, held.reset, held.seen = last.unit, last.reset, Seen.decode(last.seen)
            return held
        except BaseException:
            await close_store(store)
            raise
    except BaseException:
        await writer.close()
        raise


async def verify_identities(log: Log, names: Sequence[str], topics: Mapping[str, TopicInfo]) -> None:
    """Whether the topics are still those that this worker found when it started. Raises: TopicMismatch."""
    found = await log.describe(names)
    for name in names:
        if name not in found:
            raise TopicMismatch(
                "the topic does not exist any more",
                topic=name,
                hint="Its records are gone with it; a worker that starts creates it anew, and then tells "
                "what that means for the tables.",
            )
        if found[name].topic_id != topics[name].topic_id:
            raise TopicMismatch(
                "the topic was recreated while this worker ran",
                topic=name,
                hint="Restart the worker; it tells what that means for the tables.",
            )


async def _cleared(
    held: Held, changelog: TopicPartition, last: PositionRecord | None
) -> PositionRecord | None:
    """Finish a reset that was begun: delete the rows of the time before it."""
    if last is None or last.reset is None or not last.reset.is_clearing:
        return last
    async with aclosing(cleared(held.writer, changelog, last, held.store, held.clock)) as units:
        async for rows, record, offset_next in units:
            held.store.write(rows, held.mark(record, offset_next))
            last = record
    return last


async def _starting_inputs(
    log: Log,
    group: Group,
    partition: int,
    topics: Mapping[str, TopicInfo],
    last: PositionRecord | None,
) -> tuple[dict[str, InputPosition], bool]:
    """Where each input goes on, verified against the log; and whether the changelog already says so."""
    places = {name: TopicPartition(name, partition) for name in (*group.inputs, group.replay)}
    ranges = await log.offsets(list(places.values()))
    known = input_offsets(last)
    inputs: dict[str, InputPosition] = {}
    is_durable = True
    for name, place in places.items():
        topic_id = topics[name].topic_id
        at = known.get(name)
        if at is None:
            starts_latest = name in group.starts_latest
            # Followers of a global table know of its position by its units alone.
            is_durable = is_durable and not (starts_latest or group.is_global)
            at = InputPosition(topic_id, ranges[place].end if starts_latest else ranges[place].start)
        verify_input(place, at, topic_id, ranges[place], group.name)
        inputs[name] = at
    return inputs, is_durable


def verify_input(
    place: TopicPartition, at: InputPosition, topic_id: str, held: OffsetRange, group: str
) -> None:
    """Refuse an input that is not what the tables were folded from, or does not hold what comes next.

    Raises: TopicMismatch, OffsetOutOfRange.
    """
    anew = f"`headrace reset {group} --from-what-is-left` rebuilds the tables from what the inputs hold now."
    if at.topic_id != topic_id:
        raise TopicMismatch(
            "this input was recreated since its events were folded into the tables",
            topic=place.topic,
            partition=place.partition,
            hint=f"Its old events are gone and its offsets begin anew. {anew}",
        )
    if held.start <= at.offset_next <= held.end:
        return
    if at.offset_next < held.start:
        cause = "Events that were not applied yet were deleted (retention, or by hand)."
    else:
        cause = "The input lost its end (restored from an older copy, or an unclean leader election)."
    raise OffsetOutOfRange(
        f"the tables stand at offset {at.offset_next}, and the input holds {held.start} to {held.end}",
        topic=place.topic,
        partition=place.partition,
        hint=f"{cause} {anew}",
    )
