"""`topics`: what the app declares, what the log has, and whether the two fit."""

from collections.abc import Mapping
from typing import Any

from headrace.cli.command import Command, ExitStatus, option
from headrace.declarations import Declarations
from headrace.flow.group import changelog_name, check_changelog, form_groups
from headrace.log.port import Log, TopicInfo
from headrace.provisioning import provision
from headrace.settings import Settings

_COLUMNS = ("topic", "role", "partitions", "declared", "state", "id")


class Topics(Command):
    """List the app's topics and whether the log has them as declared; --create makes the missing ones."""

    example = "-A app.shop topics --create"
    options = [
        option("--create", is_flag=True, show_default=False, help="Create what is missing, verify the rest.")
    ]

    async def answer(self) -> ExitStatus:
        """One row per topic; yes when all are there as declared."""
        settings = self.settings()
        create = bool(self.kwargs["create"])
        declared = self.declared_app.declarations
        async with self.open_log(settings, may_create=create) as log:
            if create:
                await _create(log, declared, settings)
            rows = await _listed(log, declared)
        self.show(_COLUMNS, rows)
        return ExitStatus.YES if all(row["state"] == "ok" for row in rows) else ExitStatus.NO


async def _create(log: Log, declared: Declarations, settings: Settings) -> None:
    topics = await provision(log, settings, declared.topics.values())
    groups = form_groups(
        declared.app_id,
        declared.agents,
        list(declared.tables.values()),
        topics,
        frozenset(declared.starts_latest),
    )
    changelogs = await log.provision([group.changelog_spec() for group in groups])
    for group in groups:
        check_changelog(group, changelogs[group.changelog])


async def _listed(log: Log, declared: Declarations) -> list[dict[str, Any]]:
    inputs = {agent.topic.name: agent.group for agent in declared.agents}
    changelogs = {changelog_name(declared.app_id, group): group for group in inputs.values()}
    infos = await log.describe([*declared.topics, *changelogs])
    rows = [
        _row(name, f"input of {inputs[name]}" if name in inputs else "output", topic.spec.partitions, infos)
        for name, topic in declared.topics.items()
    ]
    for name, group in changelogs.items():
        counts = {
            infos[topic].partitions for topic, theirs in inputs.items() if theirs == group and topic in infos
        }
        rows.append(_row(name, f"changelog of {group}", counts.pop() if len(counts) == 1 else None, infos))
    return rows


def _row(name: str, role: str, declared: int | None, infos: Mapping[str, TopicInfo]) -> dict[str, Any]:
    info = infos.get(name)
    if info is None:
        state = "missing"
    elif declared is not None and info.partitions != declared:
        state = "other partitions than declared"
    else:
        state = "ok"
    return {
        "topic": name,
        "role": role,
        "partitions": info.partitions if info else None,
        "declared": declared,
        "state": state,
        "id": info.topic_id if info else None,
    }
