"""`agents`, and the commands of Faust's that have no answer here yet."""

import click

from headrace.cli.command import Command, ExitStatus
from headrace.flow.group import changelog_name


class Agents(Command):
    """List the app's agents: what they read and which group they are in."""

    async def answer(self) -> ExitStatus:
        """One row per agent."""
        declared = self.declared_app.declarations
        rows = [
            {
                "agent": agent.name,
                "topic": agent.topic.name,
                "group": agent.group,
                "changelog": changelog_name(declared.app_id, agent.group),
                "help": (agent.__doc__ or "").strip().partition("\n")[0],
            }
            for agent in declared.agents
        ]
        self.show(("agent", "topic", "group", "changelog", "help"), rows)
        return ExitStatus.YES


class Reset(Command):
    """Refused for now: rebuilding tables from their inputs is not part of headrace yet."""

    async def answer(self) -> ExitStatus:
        """Say what to do instead."""
        click.echo(
            "headrace: `reset` is not part of headrace yet, and Faust's would delete files that a worker "
            "uses. To rebuild a store from its changelog, stop the worker and remove its folder below "
            "HEADRACE_DATA.",
            err=True,
        )
        return ExitStatus.MISUSE


class CleanVersions(Command):
    """Refused: headrace keeps no data folders per app version."""

    command_name = "clean-versions"

    async def answer(self) -> ExitStatus:
        """Say why there is nothing to clean."""
        click.echo(
            "headrace: there is nothing to clean: data folders have no versions here; "
            "a store that no worker uses can be removed by hand, its changelog has all of it.",
            err=True,
        )
        return ExitStatus.MISUSE
