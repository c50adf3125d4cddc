"""`tables`: how far each partition of each group is, and what its store holds."""

from contextlib import aclosing
from typing import Any

from headrace.cli.command import Command, ExitStatus
from headrace.cli.layout import find_layout
from headrace.cli.stores import FoundStore, LocalStores
from headrace.events.position import TopicPartition
from headrace.flow.followers import followed_name
from headrace.flow.group import Group
from headrace.log.port import Log, OffsetRange
from headrace.log.stretch import records
from headrace.tables.tail import last_position

_COLUMNS = ("group", "partition", "tables", "unit", "position", "lag", "rows", "bytes", "worker", "behind")
_COUNTED_LAG_MAX = 100
"""Up to here events are counted; offsets alone also count what ends a transaction."""


class Tables(Command):
    """Show position, lag, rows and size of each partition, from the log and the stores on this machine.

    Works beside a running worker and without one. BEHIND is what a store has not applied yet of its
    changelog; rows and bytes are estimates. What workers follow of a global table is told by itself, as
    the group `NAME.followed`.
    """

    example = "-A app.shop tables"

    async def answer(self) -> ExitStatus:
        """One row per group and partition."""
        settings = self.settings()
        declared = self.declared_app.declarations
        stores = LocalStores(settings, declared.app_id)
        try:
            async with self.open_log(settings) as log:
                layout = await find_layout(log, declared)
                rows = [
                    row
                    for group in layout.groups.values()
                    for partition in range(group.partitions)
                    for row in await _rows(log, group, partition, stores)
                ]
        finally:
            stores.close()
        self.show(_COLUMNS, rows)
        return ExitStatus.YES


async def _rows(log: Log, group: Group, partition: int, stores: LocalStores) -> list[dict[str, Any]]:
    rows = [await _row(log, group, partition, stores)]
    if group.is_global:
        rows += await _followed_rows(log, group, partition, stores)
    return rows


async def _followed_rows(log: Log, group: Group, partition: int, stores: LocalStores) -> list[dict[str, Any]]:
    name, changelog = followed_name(group.name), TopicPartition(group.changelog, partition)
    rows: list[dict[str, Any]] = []
    with stores.open(name, partition) as found:
        held = (await log.offsets([changelog]))[changelog]
        for each in found:
            last = each.mark.position if each.mark else None
            known = last.position(partition) if last else {}
            row = {
                "group": name,
                "partition": partition,
                "tables": [table.name for table in group.tables],
                "unit": last.unit if last else 0,
                "position": {place: at for place, at in known.items() if place.topic in group.inputs},
            }
            rows.append(row | await _stored(log, changelog, held, each))
    return rows


async def _row(log: Log, group: Group, partition: int, stores: LocalStores) -> dict[str, Any]:
    changelog = TopicPartition(group.changelog, partition)
    inputs = [TopicPartition(name, partition) for name in group.inputs]
    with stores.open(group.name, partition) as found:
        ranges = await log.offsets([changelog, *inputs])
        held = ranges[changelog]
        last = await last_position(log, changelog, held.start, held.end)
        known = last.position(partition) if last else {}
        position = {place.topic: known.get(place, ranges[place].start) for place in inputs}
        lag = 0
        for place in inputs:
            lag += await _lag(log, place, position[place.topic], ranges[place])
        row = {
            "group": group.name,
            "partition": partition,
            "tables": [table.name for table in group.tables],
            "unit": last.unit if last else 0,
            "position": position,
            "lag": lag,
        }
        return row | (await _stored(log, changelog, held, found[0]) if found else {})


async def _stored(
    log: Log, changelog: TopicPartition, held: OffsetRange, found: FoundStore
) -> dict[str, Any]:
    return {
        "rows": found.store.rows_estimate(),
        "bytes": found.store.size_bytes(),
        "worker": found.instance,
        "behind": await _lag(log, changelog, found.offset_next, held),
    }


async def _lag(log: Log, place: TopicPartition, offset_next: int, held: OffsetRange) -> int:
    """Records between a position and the end of a partition."""
    start = max(offset_next, held.start)
    if held.end - start > _COUNTED_LAG_MAX:
        return held.end - start
    async with aclosing(records(log, place, start, held.end)) as rest:
        return len([record async for record in rest])
