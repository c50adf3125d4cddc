"""A global table as its changelog has it now, in memory: for who runs agents where no worker follows it."""

from collections.abc import Iterable
from contextlib import aclosing

from headrace.events.position import Position, TopicPartition
from headrace.flow.group import Group
from headrace.log.port import Log
from headrace.log.stretch import chunks
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.store import Row
from headrace.turns import Turns

_APPLY_ROWS = 128


async def read_globals(log: Log, groups: Iterable[Group], *, but: str) -> list[GlobalView]:
    """The global tables that agents of the group `but` may read, whole. Raises: ForkedChangelog."""
    return [await _read(log, group) for group in groups if group.is_global and group.name != but]


async def _read(log: Log, group: Group) -> GlobalView:
    followed = GlobalView(group.name, group.inputs, group.partitions, group.partitioner)
    for view in followed.partitions:
        store, last = await _store(log, TopicPartition(group.changelog, view.partition))
        known = last.position(view.partition) if last is not None else Position()
        view.serve(store, known.only([TopicPartition(name, view.partition) for name in group.inputs]))
    followed.moved()
    return followed


async def _store(log: Log, place: TopicPartition) -> tuple[MemoryStore, PositionRecord | None]:
    held = (await log.offsets([place]))[place]
    store, turns = MemoryStore(), Turns()
    last: PositionRecord | None = None
    batch: list[Row] = []
    async with aclosing(chunks(log, place, held.start, held.stable)) as fetched:
        async for chunk in fetched:
            for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
                if key == POSITION_KEY:
                    topic, partition = place
                    last = follow_unit(last, value or b"", topic=topic, partition=partition, offset=offset)
                elif key is not None:
                    batch.append((key, value))
                if len(batch) == _APPLY_ROWS:
                    store.write(batch)
                    batch = []
                    if turns.is_due:
                        await turns.give()
    store.write(batch)
    return store, last
