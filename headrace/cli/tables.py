"""`tables`: how far each partition of each group is, and what its store holds."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import click

from headrace.cli.asking import ask_workers, held_as_json
from headrace.cli.command import Command, ExitStatus, option
from headrace.cli.layout import find_layout
from headrace.cli.stores import FoundStore, LocalStores
from headrace.events.position import TopicPartition
from headrace.flow.followers import followed_name
from headrace.flow.group import Group
from headrace.http.whiteboard.board import HeldCard
from headrace.http.whiteboard.readings import held_text
from headrace.log.port import Log, OffsetRange
from headrace.log.stretch import records
from headrace.tables.tail import last_position

_COLUMNS = (
    "group", "partition", "tables", "unit", "position", "lag", "held", "rows", "bytes", "worker", "behind",
)  # fmt: skip
_UNKNOWN = "?"
_COUNTED_LAG_MAX = 100
"""Up to here events are counted; offsets alone also count what ends a transaction."""


class Tables(Command):
    """Show position, lag, rows and size of each partition, from the log and the stores on this machine.

    Works beside a running worker and without one. BEHIND is what a store has not applied yet of its
    changelog; rows and bytes are estimates. What workers follow of a global table is told by itself, as
    the group `NAME.followed`. HELD is what the running workers say: an input that waits for what the
    sender of its next event had seen, and for how long; `?` where no worker answers.
    """

    example = "-A app.shop tables"
    options = [
        option(
            "--token-file",
            type=click.File(),
            default=None,
            show_default=False,
            help="Holds the bearer token for the workers; - is the standard input.",
        )
    ]

    async def answer(self) -> ExitStatus:
        """One row per group and partition."""
        settings = self.settings()
        declared = self.declared_app.declarations
        stores = LocalStores(settings, declared.app_id)
        try:
            async with self.open_log(settings) as log:
                layout = await find_layout(log, declared)
                heard = await ask_workers(log, declared.app_id, token=self._token())
                rows = [
                    row
                    for group in layout.groups.values()
                    for partition in range(group.partitions)
                    for row in await _rows(log, group, partition, stores)
                ]
        finally:
            stores.close()
        for row in rows:
            # What is followed has no inputs of its own.
            is_task = row["group"] in layout.groups
            row["held"] = self._held(heard.held(row["group"], row["partition"]) if is_task else ())
        self.show(_COLUMNS, rows)
        if not self.json and any(row["held"] == _UNKNOWN for row in rows):
            reasons = "; ".join(heard.refusals) or "no worker has them"
            click.echo(f"headrace: HELD is not known of every partition: {reasons}", err=True)
        return ExitStatus.YES

    def _token(self) -> str | None:
        file = self.kwargs["token_file"]
        return file.read().strip() if file is not None else None

    def _held(self, held: Sequence[HeldCard] | None) -> Any:
        """What is told of held inputs: for scripts a list, or null where it is not known."""
        if self.json:
            return None if held is None else [held_as_json(each) for each in held]
        return _UNKNOWN if held is None else "; ".join(map(held_text, held))


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
                "position": {place.topic: at for place, at in known.items() if place.topic in group.inputs},
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
