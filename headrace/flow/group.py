"""A group: the agents and tables of an app that share tasks, one per partition number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import DeclarationError, TopicMismatch
from headrace.events.partitioner import Partitioner
from headrace.flow.agent import Agent
from headrace.flow.deadletter import replay_name
from headrace.flow.sink import Sink
from headrace.flow.topic import Topic
from headrace.log.port import TopicInfo, TopicSpec
from headrace.tables.globaltable import GlobalTable
from headrace.tables.table import Table

CHANGELOG_COMPACTION_LAG_MS = 3_600_000
"""The tail of a changelog stays whole for an hour, so that followers can apply whole units."""
CHANGELOG_DELETE_RETENTION_MS = 24 * 3_600_000
"""A tombstone stays a day; a store that was unused for longer than half of it is rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Agents and tables that are one unit of consistency."""

    app: str
    name: str
    changelog: str
    inputs: Mapping[str, Topic[Any, Any]]
    agents: Sequence[Agent]
    tables: Sequence[Table[Any, Any]]
    partitions: int
    starts_latest: frozenset[str] = frozenset()
    """Inputs that a new group reads from their end and not from their beginning."""

    @property
    def partitioner(self) -> Partitioner:
        """How keys are placed, in every input and so in the tables."""
        return next(iter(self.inputs.values())).partitioner

    @property
    def sink(self) -> Sink | None:
        """What its agents write instead of tables; it keeps the group's position."""
        return self.agents[0].sink if self.agents else None

    @property
    def is_global(self) -> bool:
        """Whether every worker follows its changelog: it has a global table, and nothing else."""
        return any(isinstance(table, GlobalTable) for table in self.tables)

    @property
    def replay(self) -> str:
        """The hidden input that brings dead letters back."""
        return replay_name(self.app, self.name)

    def replay_spec(self, record_bytes_max: int | None) -> TopicSpec:
        """The hidden input as it must be; dead letters are kept until somebody removes them."""
        return TopicSpec(
            name=self.replay,
            partitions=self.partitions,
            retention_ms=-1,
            record_bytes_max=record_bytes_max,
        )

    def changelog_spec(self) -> TopicSpec:
        """The changelog topic as it must be."""
        return TopicSpec(
            name=self.changelog,
            partitions=self.partitions,
            is_compacted=True,
            compaction_lag_ms=CHANGELOG_COMPACTION_LAG_MS,
            delete_retention_ms=CHANGELOG_DELETE_RETENTION_MS,
        )


def changelog_name(app: str, group: str) -> str:
    """The changelog topic of a group."""
    return f"{app}.{group}.changelog"


def form_groups(
    app: str,
    agents: Sequence[Agent],
    tables: Sequence[Table[Any, Any]],
    topics: Mapping[str, TopicInfo],
    starts_latest: frozenset[str],
) -> list[Group]:
    """The groups that these declarations form. Raises: DeclarationError, TopicMismatch."""
    names = dict.fromkeys(agent.group for agent in agents)
    for table in tables:
        if table.group not in names:
            raise DeclarationError(
                f"table {table.name} belongs to group {table.group}, and no agent is in that group",
                hint="Give the agent that writes it the same group=, or remove the table.",
            )
    return [_form_group(app, name, agents, tables, topics, starts_latest) for name in names]


def _form_group(
    app: str,
    name: str,
    agents: Sequence[Agent],
    tables: Sequence[Table[Any, Any]],
    topics: Mapping[str, TopicInfo],
    starts_latest: frozenset[str],
) -> Group:
    members = [agent for agent in agents if agent.group == name]
    _check_sink(name, members, tables)
    inputs = {agent.topic.name: agent.topic for agent in members}
    counts = {topic: topics[topic].partitions for topic in inputs}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
        raise DeclarationError(
            f"the inputs of group {name} differ in partitions: {listed}",
            hint="Send to a topic that is keyed and partitioned like the others, or declare another group.",
        )
    if len({topic.partitioner for topic in inputs.values()}) > 1:
        raise DeclarationError(
            f"the inputs of group {name} have different partitioners",
            hint="One key would live in two partitions; declare another group for one of them.",
        )
    return Group(
        app=app,
        name=name,
        changelog=changelog_name(app, name),
        inputs=inputs,
        agents=members,
        tables=[table for table in tables if table.group == name],
        partitions=next(iter(counts.values())),
        starts_latest=starts_latest & inputs.keys(),
    )


def check_changelog(group: Group, info: TopicInfo) -> None:
    """Refuse a changelog with another number of partitions than the inputs. Raises: TopicMismatch."""
    if info.partitions != group.partitions:
        raise TopicMismatch(
            f"the changelog has {info.partitions} partitions and the inputs of group {group.name} "
            f"have {group.partitions}",
            topic=group.changelog,
            hint="A partition count that changes under existing state moves keys; give the inputs their "
            "old count back, or start a new group.",
        )


def _check_sink(name: str, members: Sequence[Agent], tables: Sequence[Table[Any, Any]]) -> None:
    """Refuse a group that writes a database and something else. Raises: DeclarationError."""
    if len({agent.sink for agent in members}) > 1:
        raise DeclarationError(
            f"group {name} has agents of an applier and others",
            hint="What an applier writes has a position of its own: give the applier a group= of its own.",
        )
    own = [table.name for table in tables if table.group == name]
    if own and any(agent.sink is not None for agent in members):
        raise DeclarationError(
            f"table {own[0]} is in group {name}, which is that of an applier",
            hint="An applier writes a database and no tables; give the table another group=.",
        )
