"""Taking a task over: fence older holders, catch the store up with its changelog, know the position.

The order is the protocol: (1) the writer, which fences; (2) the changelog up to the end it has
then; (3) the inputs. So nothing can be appended behind the reader's back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.errors import OffsetOutOfRange, StoreCorrupt, TopicMismatch
from headrace.events.position import Position, TopicPartition
from headrace.flow.group import Group
from headrace.log.port import Chunk, Log, OffsetRange, TopicInfo, Writer
from headrace.tables.changelog import (
    POSITION_KEY,
    InputPosition,
    PositionRecord,
    StoreMark,
    decode_mark,
    encode_mark,
    follow_unit,
    input_offsets,
)
from headrace.tables.store import Row, Store, StoreEngine
from headrace.tables.view import PartitionView

_RESTORE_RECORDS_MAX = 5_000
_RESTORE_BYTES_MAX = 4 * 1024 * 1024
APPLY_ROWS_MAX = 400
"""Rows of one write batch: rocksdict holds the GIL while it writes, 1,000 rows took up to 5 ms."""


@dataclass(slots=True)
class Held:
    """A task that was taken over: its writer and its store, which stands at `inputs`."""

    writer: Writer
    store: Store
    changelog_offset_next: int
    unit: int
    inputs: Mapping[str, InputPosition]
    is_position_durable: bool
    """False when an input starts where nothing in the changelog says so yet."""

    def position(self, partition: int) -> Position:
        """The position of the store's rows."""
        return Position({TopicPartition(t, partition): at.offset_next for t, at in self.inputs.items()})

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
) -> Held:
    """The task, fenced and caught up.

    Cancel: the store keeps how far it came, the next take-over goes on there. Raises: LogError,
    StoreCorrupt, StoreInUse; OffsetOutOfRange and TopicMismatch when the log is not the one the
    store and the position record speak of.
    """
    writer = await log.writer(transactional_id(app, group.name, partition))
    try:
        store = await open_store(engine, group.name, partition)
        try:
            changelog = TopicPartition(group.changelog, partition)
            restore = _Restore(store, changelog, topics[group.changelog].topic_id, view)
            await restore.run(log)
            inputs, is_durable = await _starting_inputs(log, group, partition, topics, restore.last)
        except BaseException:
            await close_store(store)
            raise
    except BaseException:
        await writer.close()
        raise
    unit = restore.last.unit if restore.last else 0
    return Held(writer, store, restore.offset_next, unit, inputs, is_durable)


async def open_store(engine: StoreEngine, group: str, partition: int) -> Store:
    """The store of a task, opened in a thread where a disk is waited for: replaying its log may take long.

    Cancel: waits for the thread, and closes what it opened.
    """
    if engine.is_in_memory:
        return engine.open(group, partition)
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(None, engine.open, group, partition)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait({opening})
        if opening.exception() is None:
            await close_store(opening.result())
        raise


async def close_store(store: Store) -> None:
    """Close a store, in a thread where a disk is waited for: flushing takes tens of milliseconds.

    Cancel: waits for the thread all the same; the files must be free for the next holder.
    """
    if store.is_in_memory:
        store.close()
        return
    closing = asyncio.get_running_loop().run_in_executor(None, store.close)
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        raise


class _Restore:
    """Catches one store up with its changelog partition."""

    def __init__(
        self, store: Store, changelog: TopicPartition, changelog_id: str, view: PartitionView
    ) -> None:
        self._store = store
        self._changelog = changelog
        self._changelog_id = changelog_id
        self._view = view
        mark = decode_mark(store.mark)
        if mark is not None and mark.changelog_id != changelog_id:
            raise TopicMismatch(
                "the changelog was recreated since this store was written",
                topic=changelog.topic,
                partition=changelog.partition,
                hint="Remove the store's folder to rebuild it from the new changelog.",
            )
        self._was_restoring = mark.is_restoring if mark else False
        self.last: PositionRecord | None = mark.position if mark else None
        self.offset_next = mark.changelog_offset_next if mark else 0

    async def run(self, log: Log) -> None:
        """Apply the changelog up to the end it has now."""
        known: OffsetRange = (await log.offsets([self._changelog]))[self._changelog]
        is_new = self._store.mark is None
        if is_new:
            self.offset_next = known.start
        elif not known.start <= self.offset_next <= known.end:
            raise OffsetOutOfRange(
                f"the store stands at changelog offset {self.offset_next}, and the changelog holds "
                f"{known.start} to {known.end}",
                topic=self._changelog.topic,
                partition=self._changelog.partition,
                hint="Remove the store's folder; it is rebuilt from what the changelog holds.",
            )
        self._view.restore_offset = self._view.restore_start = self.offset_next
        self._view.restore_end = known.end
        if self.offset_next < known.end:
            self._write_mark([], is_restoring=True)
            await self._read(log, known.end)
        elif not is_new and not self._was_restoring:
            return
        self._write_mark([], is_restoring=False)

    async def _read(self, log: Log, end: int) -> None:
        reader = await log.reader({self._changelog: self.offset_next})
        try:
            while self.offset_next < end:
                for chunk in await reader.fetch(
                    records_max=_RESTORE_RECORDS_MAX, bytes_max=_RESTORE_BYTES_MAX
                ):
                    await self._apply(chunk)
        finally:
            await reader.close()

    async def _apply(self, chunk: Chunk) -> None:
        for start in range(0, len(chunk), APPLY_ROWS_MAX):
            stop = min(start + APPLY_ROWS_MAX, len(chunk))
            rows = self._rows(chunk, start, stop)
            self.offset_next = chunk.offset_next if stop == len(chunk) else chunk.offsets[stop]
            self._write_mark(rows, is_restoring=True)
            self._view.restore_offset = self.offset_next
            await asyncio.sleep(0)
        self.offset_next = chunk.offset_next
        self._view.restore_offset = self.offset_next

    def _rows(self, chunk: Chunk, start: int, stop: int) -> list[Row]:
        rows: list[Row] = []
        keys, values = chunk.keys[start:stop], chunk.values[start:stop]
        for index, (key, value) in enumerate(zip(keys, values, strict=True), start):
            if key == POSITION_KEY:
                self.last = follow_unit(
                    self.last,
                    value or b"",
                    topic=chunk.topic,
                    partition=chunk.partition,
                    offset=chunk.offsets[index],
                )
            elif not key or key[0] == 0:
                raise StoreCorrupt(
                    f"a changelog record has the key {key!r}, which no row has",
                    topic=chunk.topic,
                    partition=chunk.partition,
                    offset=chunk.offsets[index],
                    hint="Something else writes into this changelog; give it back to headrace alone.",
                )
            else:
                rows.append((key, value))
        return rows

    def _write_mark(self, rows: Sequence[Row], *, is_restoring: bool) -> None:
        mark = StoreMark(self._changelog_id, self.offset_next, self.last, is_restoring)
        self._store.write(rows, encode_mark(mark))


async def _starting_inputs(
    log: Log,
    group: Group,
    partition: int,
    topics: Mapping[str, TopicInfo],
    last: PositionRecord | None,
) -> tuple[dict[str, InputPosition], bool]:
    """Where each input goes on, verified against the log; and whether the changelog already says so."""
    places = {name: TopicPartition(name, partition) for name in group.inputs}
    ranges = await log.offsets(list(places.values()))
    known = input_offsets(last)
    inputs: dict[str, InputPosition] = {}
    is_durable = True
    for name, place in places.items():
        topic_id = topics[name].topic_id
        at = known.get(name)
        if at is None:
            starts_latest = name in group.starts_latest
            is_durable = is_durable and not starts_latest
            at = InputPosition(topic_id, ranges[place].end if starts_latest else ranges[place].start)
        _verify_input(place, at, topic_id, ranges[place])
        inputs[name] = at
    return inputs, is_durable


def _verify_input(place: TopicPartition, at: InputPosition, topic_id: str, held: OffsetRange) -> None:
    if at.topic_id != topic_id:
        raise TopicMismatch(
            "this input was recreated since its events were folded into the tables",
            topic=place.topic,
            partition=place.partition,
            hint="Its offsets begin anew; start a new group (or app id) to fold the new topic.",
        )
    if not held.start <= at.offset_next <= held.end:
        raise OffsetOutOfRange(
            f"the tables stand at offset {at.offset_next}, and the input holds {held.start} to {held.end}",
            topic=place.topic,
            partition=place.partition,
        )
