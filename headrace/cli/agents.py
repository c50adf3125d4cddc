"""`agents`: what the app's agents read."""

import click

from headrace.cli.command import Command, ExitStatus
from headrace.flow.group import changelog_name


class Agents(Command):
    """List the app's agents: what they read and which group they are in."""

    example = "-A app.shop agents"

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

    example = "-A app.shop verify"

    async def answer(self) -> ExitStatus:
        """Say what to do instead."""
        raise click.UsageError(
            "`reset` is not part of headrace yet, and Faust's would delete files that a worker "
            "uses. To rebuild a store from its changelog, stop the worker and remove its folder below "
            "HEADRACE_DATA."
        )
