"""`bridge diff`: whether a table of the database that is being left says what a table of the app says."""

import os
import time
from collections.abc import Sequence
from typing import Any

import click

from headrace.bridge.diff.comparing import Comparison
from headrace.bridge.diff.declared import Compared
from headrace.bridge.diff.difference import Difference
from headrace.bridge.diff.opening import Opened, open_comparison
from headrace.bridge.diff.repair import Repair
from headrace.bridge.diff.state import Kept
from headrace.cli.bridging import BRIDGE
from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.layout import find_layout
from headrace.cli.progress import ReadingProgress
from headrace.errors import DriftFound
from headrace.standalone import StandaloneSender

_COLUMNS = ("kind", "key", "table", "database", "changed", "position")
_NICE = 10
_KEYS_PER_LOOK = 500
_LOOKS_MAX = 200


class _Share(click.ParamType):
    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`whole`, or a percentage such as 5%, as a share of 1."""
        if isinstance(value, float) or value == "whole":
            return 1.0 if value == "whole" else float(value)
        try:
            share = float(str(value).removesuffix("%")) / 100
        except ValueError:
            share = 0.0
        if not 0.0 < share <= 1.0:
            self.fail(f"{value!r} is neither `whole` nor a percentage above 0 such as 5%", param, ctx)
        return share


class Diff(Command):
    """Compare a table of the database with one of the app, both at one position, while both go on.

    Exit status 0: they say the same. 1: they do not. 3: some rows could not be seen at one position.
    A row is `missing` or `extra` in the database, or `different`. What was found so far is kept, also
    when the command is interrupted; --resume goes on there.
    """

    command_group = BRIDGE
    example = "-A app.loyalty bridge diff balances --sample 5%"
    options = [
        argument("table"),
        option("--sample", type=_Share(), default="whole", help="A share of the keys, by their hash."),
        option("--resume", is_flag=True, show_default=False, help="Go on where the last one ended."),
        option(
            "--limit",
            type=click.IntRange(min=0),
            default=20,
            help="Show so many differences; all are in the file.",
        ),
        option(
            "--send",
            is_flag=True,
            show_default=False,
            help="Send the correction event of each difference.",
        ),
        option(
            "--repair-sql",
            is_flag=True,
            show_default=False,
            help="Write into the database what the table says.",
        ),
    ]

    async def answer(self) -> ExitStatus:
        """Counts by kind, and the first differences."""
        compared = self._compared()
        # A worker of this machine comes first.
        os.nice(_NICE)
        settings = self.settings()
        declared = self.declared_app.declarations
        began_s = time.monotonic()
        async with self.open_log(settings) as log:
            layout = await find_layout(log, declared)
            opening = open_comparison(
                compared,
                settings,
                log,
                layout.groups[compared.table.group],
                layout.topics,
                share=self.kwargs["sample"],
                is_resumed=self.kwargs["resume"],
            )
            async with opening as opened:
                rows = round(opened.rows_estimate * self.kwargs["sample"])
                with ReadingProgress("comparing", "rows") as progress:
                    await opened.comparison.run(lambda done: progress.report(done, max(done, rows)))
                differing = [bytes.fromhex(each.store_key) for each in opened.state.found()]
                facts = _facts(compared, opened, time.monotonic() - began_s)
                facts["offered"] = await self._offered(compared, opened)
                if self.kwargs["send"]:
                    facts["sent"] = await self._send(compared, opened.comparison, differing)
                if self.kwargs["repair_sql"]:
                    facts["repaired"], facts["not_repaired"] = await _repair(opened, differing)
        self._tell(facts, opened)
        if differing:
            click.echo(f"headrace: DriftFound: {_verdict(facts)}. {DriftFound.hint}", err=True)
            return ExitStatus.NO
        return ExitStatus.UNKNOWN if facts["undecided"] else ExitStatus.YES

    def _compared(self) -> Compared[Any, Any]:
        declared = self.declared_app.declarations.compared
        name = self.kwargs["table"]
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise click.UsageError(
                f"no table {name} is declared with bridge.Compared(...); there is: {known}"
            )
        compared = declared[name]
        if self.kwargs["send"] and compared.correction is None:
            raise click.UsageError(f"table {name} is compared without a correction=, so nothing can be sent")
        if self.kwargs["send"] and self.kwargs["repair_sql"]:
            raise click.UsageError("one side is to be mended, not both: --send or --repair-sql")
        return compared

    def _tell(self, facts: dict[str, Any], opened: Opened) -> None:
        shown: list[Kept] = []
        for each in opened.state.found():
            if len(shown) == self.kwargs["limit"]:
                break
            shown.append(each)
        rows = [
            {
                "kind": each.kind,
                "key": each.key,
                "table": each.table,
                "database": each.database,
                "changed": list(each.changed),
                "position": each.position,
            }
            for each in shown
        ]
        if self.json:
            self.show_json({**facts, "differences": rows})
            return
        if rows:
            self.show(_COLUMNS, rows)
        click.echo(_verdict(facts))
        if facts["left_out_inputs"]:
            names = ", ".join(facts["left_out_inputs"])
            click.echo(
                f"headrace: the applier does not read {names}: no position of it was compared", err=True
            )

    # --- what mends it

    async def _offered(self, compared: Compared[Any, Any], opened: Opened) -> list[dict[str, Any]]:
        """What would mend the first differences on either side."""
        keys = [bytes.fromhex(each.store_key) for each in opened.state.found()][: self.kwargs["limit"]]
        offered = []
        for each in (await _look(opened.comparison, keys))[0]:
            sql = opened.comparison.sql
            statement, parameters = (
                sql.delete_statement(each.store_key)
                if each.wanted is None
                else sql.put_statement(each.store_key, tuple(each.wanted.values()))
            )
            event = compared.correction(each) if compared.correction is not None else None
            offered.append(
                {
                    "key": compared.table.keys.to_json(each.key),
                    "event": event,
                    "sql": statement,
                    "parameters": list(parameters),
                }
            )
        return offered

    async def _send(self, compared: Compared[Any, Any], comparison: Comparison, keys: Sequence[bytes]) -> int:
        """Send the corrections of what still differs; how many."""
        assert compared.correction is not None
        assert compared.to is not None
        sent = 0
        async with StandaloneSender(self.declared_app.declarations, self.settings):
            for start in range(0, len(keys), _KEYS_PER_LOOK):
                differences, _ = await _look(comparison, keys[start : start + _KEYS_PER_LOOK])
                for each in differences:
                    event = compared.correction(each)
                    if event is not None:
                        await compared.to.send(key=each.key, value=event)
                        sent += 1
        return sent


async def _look(
    comparison: Comparison, keys: Sequence[bytes]
) -> tuple[Sequence[Difference], Sequence[bytes]]:
    """What of these keys differs at positions of now, and the keys for which that could not be told."""
    differences: list[Difference] = []
    left = list(keys)
    for _ in range(_LOOKS_MAX):
        if not left:
            break
        differences += await comparison.look(left)
        left = [key for key in left if key in comparison.replica.doubtful]
    return differences, left


async def _repair(opened: Opened, keys: Sequence[bytes]) -> tuple[int, int]:
    """Mend the database; how many rows, and how many could not be brought to one position."""
    session = await opened.engine.connect(purpose="headrace repair")
    try:
        repair = Repair(opened.comparison, session, is_sqlite=opened.engine.name == "sqlite")
        left = await repair.run(keys)
    finally:
        await session.close()
    return repair.repaired, len(left)


def _facts(compared: Compared[Any, Any], opened: Opened, seconds: float) -> dict[str, Any]:
    state = opened.state
    return {
        "table": compared.table.name,
        "sql_table": compared.sql_table,
        "compared": state.progress.compared,
        **state.counts(),
        "undecided": len(state.doubtful),
        "seconds": round(seconds, 2),
        "file": str(state.found_file),
        "left_out_inputs": list(opened.unshared),
    }


def _verdict(facts: dict[str, Any]) -> str:
    counts = ", ".join(f"{facts[kind]:,} {kind}" for kind in ("missing", "extra", "different"))
    undecided = f", {facts['undecided']:,} undecided" if facts["undecided"] else ""
    mended = "".join(f", {facts[what]:,} {what}" for what in ("sent", "repaired") if what in facts)
    return f"{facts['compared']:,} rows compared in {facts['seconds']:g} s: {counts}{undecided}{mended}"
