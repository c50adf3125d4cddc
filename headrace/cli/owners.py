"""`bridge owners`: who still touches the tables of the database that is being left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.bridge.database import Database
from headrace.cli.bridging import BRIDGE
from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from headrace.bridge.owners.finding import Finding, Found

_COLUMNS = ("whose", "table", "kind", "who", "does", "what")


class Owners(Command):
    """Tell who still touches tables of the database: sessions, statements, grants, objects, sources.

    TABLES: those that the app declares for its bridge, unless named. Exit status 0: nobody but the app
    and its bridge. 1: somebody does, or has the right to. 3: it could not be told.
    """

    command_group = BRIDGE
    example = "-A app.loyalty bridge owners balances --source ."
    options = [
        argument("tables", nargs=-1),
        option(
            "--source",
            type=click.Path(exists=True, path_type=Path),
            multiple=True,
            show_default=False,
            help="A folder whose sources are scanned for SQL; may be given again.",
        ),
    ]

    async def answer(self) -> ExitStatus:
        """Every finding, those of others first; then what could not be seen, and the verdict."""
        try:
            # Loaded only where it is asked for: sqlglot is an extra.
            from headrace.bridge.owners.finding import Found
            from headrace.bridge.owners.looking import look
            from headrace.bridge.owners.sources import scan
            from headrace.cli.owned import own_files, own_of
        except ImportError as error:
            raise SettingsError(
                "sqlglot, which reads SQL, is not installed",
                hint="Install it: pip install 'headrace[owners]'.",
            ) from error
        settings = self.settings()
        tables, found, missing = self._tables(), Found(), []
        engines = {each.engine(settings).shown: each.engine(settings) for each in tables.values()}
        for shown, engine in engines.items():
            asked = [name for name, each in tables.items() if each.engine(settings).shown == shown]
            missing += await look(engine, asked, own_of(self.declared_app.declarations), found)
        if missing:
            raise click.UsageError(f"{', '.join(engines)} has no table {', '.join(missing)}")
        scan(self.kwargs["source"], list(tables), own_files(), found)
        return self._tell(found, list(engines))

    def _tables(self) -> Mapping[str, Database]:
        """The tables that are asked for, each in its database."""
        from headrace.cli.owned import declared_tables

        declared = declared_tables(self.declared_app.declarations)
        other = next(iter(declared.values()), Database())
        tables = {name: declared.get(name.casefold(), other) for name in self.kwargs["tables"]} or declared
        if not tables:
            raise click.UsageError("the app declares nothing of a database; name the tables")
        return tables

    def _tell(self, found: "Found", databases: Sequence[str]) -> ExitStatus:
        verdict = found.verdict
        rows = [_row(each) for each in found.in_order()]
        if self.json:
            self.show_json(
                {
                    "databases": databases,
                    "findings": rows,
                    "not_seen": found.not_seen,
                    "not_there": found.not_there,
                    "verdict": verdict.value,
                }
            )
        else:
            if rows:
                self.show(_COLUMNS, rows)
            for sentence in (*found.not_seen, *found.not_there):
                click.echo(f"headrace: not seen: {sentence}", err=True)
            click.echo(f"{found.counted()}: {verdict.value}")
        return _STATUS[verdict.name]


_STATUS = {"NOBODY": ExitStatus.YES, "SOMEBODY": ExitStatus.NO, "UNTOLD": ExitStatus.UNKNOWN}


def _row(finding: "Finding") -> dict[str, Any]:
    return {
        "whose": finding.whose.value,
        "table": finding.table,
        "kind": finding.kind.value,
        "who": finding.who,
        "does": finding.touch.words or ["?"],
        "what": finding.what,
    }
