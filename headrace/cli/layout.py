"""The app's groups and topics as the log has them, without creating or joining anything."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.declarations import Declarations, check_global_tables
from headrace.errors import TopicMismatch
from headrace.flow.group import Group, changelog_name, check_changelog, form_groups
from headrace.log.port import Log, TopicInfo


@dataclass(frozen=True, slots=True)
class Layout:
    """Groups and topics of an app."""

    groups: Mapping[str, Group]
    topics: Mapping[str, TopicInfo]

    def group_of(self, table: str, declared: Declarations) -> Group:
        """The group that a declared table is in."""
        return self.groups[declared.tables[table].group]


async def find_layout(log: Log, declared: Declarations) -> Layout:
    """What the log has of the app.

    Raises: DeclarationError; TopicMismatch for a topic that is missing or does not fit.
    """
    check_global_tables(declared)
    inputs = dict.fromkeys(agent.topic.name for agent in declared.agents)
    changelogs = dict.fromkeys(changelog_name(declared.app_id, agent.group) for agent in declared.agents)
    wanted = [*inputs, *changelogs]
    topics = await log.describe(wanted)
    for name in wanted:
        if name not in topics:
            raise TopicMismatch(
                "this topic does not exist yet",
                topic=name,
                hint="A worker creates it when it starts; `topics --create` creates the declared ones.",
            )
    groups = form_groups(
        declared.app_id,
        declared.agents,
        list(declared.tables.values()),
        topics,
        frozenset(declared.starts_latest),
    )
    for group in groups:
        check_changelog(group, topics[group.changelog])
    return Layout({group.name: group for group in groups}, topics)
