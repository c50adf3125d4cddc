"""`get`: one row of a table, as committed."""

from contextlib import aclosing
from typing import Any, NamedTuple

import click
import msgspec

from headrace.cli.command import Command, ExitStatus, argument
from headrace.cli.completion import table_names
from headrace.cli.layout import Layout, find_layout
from headrace.cli.stores import LocalStores
from headrace.errors import DecodeError
from headrace.events.position import TopicPartition
from headrace.log.port import Log
from headrace.log.stretch import records
from headrace.tables.table import Table


class Get(Command):
    """Write the row of KEY in TABLE, as committed in the log; exit status 1 when there is none.

    Read from a store on this machine and the end of the changelog, or from the changelog alone.
    """

    example = "-A app.shop get totals ada"
    options = [argument("table", shell_complete=table_names), argument("key")]

    async def answer(self) -> ExitStatus:
        """The row as JSON."""
        settings = self.settings()
        declared = self.declared_app.declarations
        table = declared.tables.get(self.kwargs["table"])
        if table is None:
            known = ", ".join(declared.tables) or "none"
            raise click.UsageError(f"there is no table {self.kwargs['table']!r}; the app has: {known}")
        try:
            key = table.keys.from_text(self.kwargs["key"])
        except DecodeError as error:
            raise click.UsageError(str(error)) from error
        stores = LocalStores(settings, declared.app_id)
        try:
            async with self.open_log(settings) as log:
                layout = await find_layout(log, declared)
                partition, row, _ = await find_row(log, layout, table, key, stores)
        finally:
            stores.close()
        if self.json:
            shown = None if row is None else msgspec.Raw(row)
            self.show_json({"key": table.keys.to_json(key), "partition": partition, "value": shown})
        elif row is not None:
            click.echo(row.decode())
        else:
            click.echo(f"headrace: table {table.name} has no row {self.kwargs['key']}", err=True)
        return ExitStatus.NO if row is None else ExitStatus.YES


class FoundRow(NamedTuple):
    """Where a key lives, and its newest committed row."""

    partition: int
    row: bytes | None
    offset_next: int
    """The changelog offset up to which this holds."""


async def find_row(
    log: Log, layout: Layout, table: Table[Any, Any], key: Any, stores: LocalStores
) -> FoundRow:
    """The newest committed row of a key."""
    group = layout.groups[table.group]
    partition = group.partitioner.place(table.keys.to_wire(key), group.partitions)
    place = TopicPartition(group.changelog, partition)
    row_key = table.row_prefix + table.keys.to_store(key)
    row: bytes | None = None
    with stores.open(group.name, partition) as found:
        held = (await log.offsets([place]))[place]
        start = held.start
        changelog_id = layout.topics[group.changelog].topic_id
        if found and found[0].mark and found[0].mark.changelog_id == changelog_id:
            start, row = max(start, found[0].offset_next), found[0].store.get(row_key)
        async with aclosing(records(log, place, start, held.end)) as rest:
            async for record in rest:
                if record.key == row_key:
                    row = record.value
    return FoundRow(partition, row, max(start, held.end))
