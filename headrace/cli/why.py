"""`why`: the events that made a row, what each had to wait for, and what corrects them."""

from collections.abc import Iterator
from typing import Any

import click

from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.completion import table_names
from headrace.cli.layout import find_layout
from headrace.cli.progress import ReadingProgress
from headrace.cli.telling import fact_as_json, fact_lines, told, value_as_json
from headrace.errors import DecodeError
from headrace.flow.fact import Naming
from headrace.flow.globalreading import read_globals
from headrace.flow.keyhistory import naming_of, telling_topics
from headrace.flow.origin import Cause, Link, Origin, OriginSearch
from headrace.flow.standing import read_standing
from headrace.flow.wording import place_text, plain, shortened
from headrace.tables.table import Table

LIMIT = 50


class Why(Command):
    """Write the events that made the row of KEY in TABLE, in the order in which they were handed out.

    The log is all it needs: the agents fold the key's partition once more, in memory, and what they
    send is dropped. Exit status 1 when no event wrote the row, or when what is left of the events
    makes another one.
    """

    example = "-A app.shop why totals ada"
    options = [
        argument("table", shell_complete=table_names),
        argument("key"),
        option("--limit", type=click.IntRange(min=1), default=LIMIT, help="So many of the newest events."),
    ]

    async def answer(self) -> ExitStatus:
        """The origin of the row."""
        table, key = self._row()
        declared = self.declared_app.declarations
        async with self.open_log(self.settings()) as log:
            layout = await find_layout(log, declared)
            group = layout.group_of(table.name, declared)
            followed = await read_globals(log, layout.groups.values(), but=group.name)
            naming = await naming_of(log)
            with ReadingProgress() as progress:
                search = OriginSearch(
                    log,
                    group,
                    table,
                    key,
                    naming=naming,
                    telling=telling_topics((), list(declared.topics.values())),
                    followed=followed,
                    limit=self.kwargs["limit"],
                    report=progress.report,
                )
                origin = await search.run(await read_standing(log, group, search.partition, search.row_key))
        if self.json:
            self.show_json(self._as_json(table, key, search.partition, origin, naming))
        else:
            for line in self._lines(search.partition, origin, naming):
                click.echo(plain(line))
        return ExitStatus.YES if origin.links and origin.is_borne_out else ExitStatus.NO

    def _row(self) -> tuple[Table[Any, Any], Any]:
        tables = self.declared_app.declarations.tables
        table = tables.get(self.kwargs["table"])
        if table is None:
            known = ", ".join(tables) or "none"
            raise click.UsageError(f"there is no table {self.kwargs['table']!r}; the app has: {known}")
        try:
            return table, table.keys.from_text(self.kwargs["key"])
        except DecodeError as error:
            raise click.UsageError(str(error)) from error

    # --- for scripts

    def _as_json(
        self, table: Table[Any, Any], key: Any, partition: int, origin: Origin, naming: Naming
    ) -> dict[str, Any]:
        return {
            "table": table.name,
            "key": table.keys.to_json(key),
            "partition": partition,
            "row": value_as_json(origin.row),
            "position": origin.position,
            "is_borne_out": origin.is_borne_out,
            "told": value_as_json(origin.told),
            "left_out": origin.left_out,
            "begins_at": {place.topic: offset for place, offset in origin.begins_at.items()},
            "events": [_link_as_json(link, naming) for link in origin.links],
            "refused": [
                fact_as_json(each.fact, naming)
                | {"agent": each.agent, "error": each.error, "refused_because": each.reason}
                for each in origin.refusals
            ],
        }

    # --- for people

    def _lines(self, partition: int, origin: Origin, naming: Naming) -> Iterator[str]:
        row = "(no row)" if origin.row is None else shortened(origin.row)
        yield f"{self.kwargs['table']} {self.kwargs['key']}: {row}"
        reached = ", ".join(f"{topic}/{partition} up to {at}" for topic, at in origin.position.items())
        yield f"stands at {reached}"
        yield from verdict(origin)
        if origin.left_out:
            yield f"({origin.left_out:,} older events are left out; --limit tells more of them)"
        for number, link in enumerate(origin.links, origin.left_out + 1):
            first, *rest = fact_lines(link.fact, naming)
            yield f"{number:>3}. {first}"
            yield from (f"     {line}" for line in (*rest, *_link_lines(link)))
        for each in origin.refusals:
            by = each.agent or "every agent of its topic"
            yield f"  -  {place_text(each.fact)}  {each.fact.kind}: not in the row, refused by {by}"
            yield f"         {each.error}: {each.reason}"


def verdict(origin: Origin) -> Iterator[str]:
    """Whether the events bear the row out, in sentences."""
    if origin.is_borne_out:
        if not origin.links:
            yield "no event has written this row"
        return
    if not origin.is_whole:
        yield "the events were not all read: the time was up"
        return
    row = "no row" if origin.told is None else shortened(origin.told)
    yield f"THE EVENTS BELOW MAKE ANOTHER ROW: {row}"
    for place, offset in origin.begins_at.items():
        yield f"  {place.topic}/{place.partition} begins at offset {offset}: what was before is deleted"
    if origin.failed:
        yield f"  {origin.failed:,} events are refused by the agents now, and were not when they were handled"
    yield "  the agents may have changed since, or events of several inputs came in another order"


def _link_as_json(link: Link, naming: Naming) -> dict[str, Any]:
    return fact_as_json(link.fact, naming) | {
        "agent": link.agent,
        "row": value_as_json(link.row),
        "is_replayed": link.is_replayed,
        "causes": [_cause_as_json(cause, naming) for cause in link.causes],
    }


def _cause_as_json(cause: Cause, naming: Naming) -> dict[str, Any]:
    where = {"topic": cause.place.topic, "partition": cause.place.partition, "offset_next": cause.offset_next}
    return where | {"event": fact_as_json(cause.fact, naming) if cause.fact is not None else None}


def _link_lines(link: Link) -> Iterator[str]:
    for cause in link.causes:
        last = "deleted since"
        if cause.fact is not None:
            last = f"{place_text(cause.fact)} {cause.fact.kind} {cause.fact.event_id}"
        where = f"{cause.place.topic}/{cause.place.partition} up to {cause.offset_next}"
        yield told("waited for", f"{where}: {last}")
    if link.is_replayed:
        yield told("replayed", "it was a dead letter")
    yield told("row", f"{'deleted' if link.row is None else shortened(link.row)}  (by {link.agent})")
