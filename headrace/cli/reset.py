"""`reset`: tables rebuilt from their inputs."""

from collections.abc import Sequence
from typing import Any

import click

from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.layout import find_layout
from headrace.clock import SYSTEM_CLOCK
from headrace.flow.group import Group
from headrace.flow.reset import refuse_loss, refuse_running, reset_task

_COLUMNS = ("group", "partition", "rows", "inputs", "muted_until")


class Reset(Command):
    """Rebuild the tables of GROUP (all groups unless given) from their inputs.

    Deletes every row and puts the inputs back to their beginning; the next worker folds them again.
    What the agents send for events up to the old position is not sent again; dead letters are. No
    worker of the app may run meanwhile. A reset that was interrupted is finished by the next worker,
    or by another reset.
    """

    example = "-A app.shop reset main --yes"
    options = [
        argument("group", required=False),
        option("--yes", "-y", is_flag=True, show_default=False, help="Do not ask."),
        option(
            "--from-what-is-left",
            is_flag=True,
            show_default=False,
            help="Although an input does not hold its first events any more, or was recreated.",
        ),
    ]

    async def answer(self) -> ExitStatus:
        """One row per partition."""
        settings = self.settings()
        declared = self.declared_app.declarations
        takes_what_is_left = bool(self.kwargs["from_what_is_left"])
        rows: list[dict[str, Any]] = []
        sinks = {agent.group for agent in declared.agents if agent.sink is not None}
        names = self._wanted({agent.group for agent in declared.agents} - sinks, sinks)
        self._require_consent()
        async with self.open_log(settings) as log:
            layout = await find_layout(log, declared)
            groups = [group for group in layout.groups.values() if group.name in names]
            await refuse_running(log, declared.app_id)
            if not takes_what_is_left:
                for group in groups:
                    await refuse_loss(log, group)
            self._confirm(groups)
            for group in groups:
                for partition in range(group.partitions):
                    done = await reset_task(
                        declared.app_id,
                        group,
                        partition,
                        log=log,
                        clock=SYSTEM_CLOCK,
                        takes_what_is_left=takes_what_is_left,
                    )
                    rows.append(
                        {
                            "group": group.name,
                            "partition": partition,
                            "rows": done.rows,
                            "inputs": done.inputs,
                            "muted_until": done.muted_until,
                        }
                    )
        self.show(_COLUMNS, rows)
        return ExitStatus.YES

    def _wanted(self, groups: set[str], sinks: set[str]) -> set[str]:
        name = self.kwargs["group"]
        if name in sinks:
            raise click.UsageError(
                f"group {name} writes a database, which keeps its position: delete its rows from "
                "headrace_positions and headrace_appliers there, and what it has written"
            )
        if name is not None and name not in groups:
            raise click.UsageError(
                f"there is no group {name!r}; the app has: {', '.join(sorted(groups)) or 'none'}"
            )
        return groups if name is None else {name}

    def _require_consent(self) -> None:
        """Nobody can be asked where there is no terminal."""
        if not self.kwargs["yes"] and (self.json or not click.get_text_stream("stdin").isatty()):
            raise click.UsageError("this deletes every row and folds the inputs again; say so with --yes")

    def _confirm(self, groups: Sequence[Group]) -> None:
        if not self.kwargs["yes"]:
            tables = ", ".join(table.name for group in groups for table in group.tables) or "no tables"
            question = f"Delete every row of {tables}, and fold the inputs again?"
            click.confirm(question, abort=True, err=True)
