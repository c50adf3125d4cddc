"""`watch`: one row of a table, and each commit that changes it."""

from typing import Any, NoReturn

import click
import msgspec

from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.completion import table_names
from headrace.cli.get import find_row
from headrace.cli.layout import find_layout
from headrace.cli.stores import LocalStores
from headrace.errors import DecodeError
from headrace.events.position import TopicPartition
from headrace.log.port import Log
from headrace.tables.table import Table

_RECORDS_MAX = 1_000
_BYTES_MAX = 1024 * 1024


class Watch(Command):
    """Write the row of KEY in TABLE now and at each commit that changes it, until Ctrl-C.

    Read from the changelog, as committed: the table need not be served, and any worker may own the
    key. A row that is deleted, or is not there, is told as such.
    """

    example = "-A app.shop watch totals ada --count 1"
    options = [
        argument("table", shell_complete=table_names),
        argument("key"),
        option("--count", type=click.IntRange(min=1), help="End after so many lines."),
    ]

    def __call__(self, *arguments: Any, **given: Any) -> NoReturn:
        """Watch; Ctrl-C is how it usually ends, and no failure."""
        try:
            super().__call__(*arguments, **given)
        except KeyboardInterrupt:
            raise SystemExit(ExitStatus.YES) from None

    async def answer(self) -> ExitStatus:
        """A line for each state of the row."""
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
        async with self.open_log(settings) as log:
            layout = await find_layout(log, declared)
            try:
                found = await find_row(log, layout, table, key, stores)
            finally:
                stores.close()
            self._show(table, key, found.row, found.offset_next)
            row_key = table.row_prefix + table.keys.to_store(key)
            place = TopicPartition(layout.groups[table.group].changelog, found.partition)
            count: int | None = self.kwargs["count"]
            await self._follow(log, place, row_key, found.offset_next, found.row, (table, key, count))
        return ExitStatus.YES

    async def _follow(
        self,
        log: Log,
        place: TopicPartition,
        row_key: bytes,
        start: int,
        row: bytes | None,
        shown: tuple[Table[Any, Any], Any, int | None],
    ) -> None:
        table, key, count = shown
        lines = 1
        if lines == count:
            return
        reader = await log.reader({place: start})
        try:
            while True:
                for chunk in await reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
                    for offset, found, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
                        if found != row_key or value == row:
                            continue
                        row, lines = value, lines + 1
                        self._show(table, key, row, offset + 1)
                        if lines == count:
                            return
        finally:
            await reader.close()

    def _show(self, table: Table[Any, Any], key: Any, row: bytes | None, offset_next: int) -> None:
        if self.json:
            value = None if row is None else msgspec.Raw(row)
            self.show_json(
                {
                    "key": table.keys.to_json(key),
                    "value": value,
                    "is_deleted": row is None,
                    "changelog": offset_next,
                }
            )
        else:
            click.echo("(no row)" if row is None else row.decode())
