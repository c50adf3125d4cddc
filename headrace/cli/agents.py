"""`agents`: what the app's agents read."""

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
