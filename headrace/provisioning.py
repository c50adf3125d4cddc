"""What an app needs before it runs: topics, created when they are missing, and the tables it serves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from headrace.declarations import Declarations
from headrace.errors import DeclarationError
from headrace.flow.group import Group
from headrace.flow.topic import Topic
from headrace.http.source import ServedTable
from headrace.log.port import Log, TopicInfo, TopicSpec
from headrace.settings import Settings

DEFAULT_PARTITIONS = 8
"""Partitions of a topic that declares none and does not exist yet; Faust's default, too."""


async def provision(
    log: Log, settings: Settings, topics: Iterable[Topic[Any, Any]]
) -> Mapping[str, TopicInfo]:
    """The app's topics as they are, after the missing ones were created. Raises: TopicMismatch."""
    specs = [topic.spec for topic in topics]
    open_names = [spec.name for spec in specs if spec.partitions is None]
    existing = await log.describe(open_names) if open_names else {}
    return await log.provision([_settled(spec, existing) for spec in specs]) if specs else {}


def _settled(spec: TopicSpec, existing: Mapping[str, TopicInfo]) -> TopicSpec:
    if spec.partitions is not None or spec.name in existing:
        return spec
    return replace(spec, partitions=DEFAULT_PARTITIONS)


def served_tables(declared: Declarations, groups: Mapping[str, Group]) -> Iterator[ServedTable]:
    """The tables that are declared to be readable. Raises: DeclarationError."""
    for serving in declared.served:
        table = serving.table
        if table.group not in groups:
            raise DeclarationError(f"table {table.name} is served, and no agent is in its group")
        group = groups[table.group]
        yield ServedTable(
            path=serving.path,
            name=table.name,
            group=group.name,
            keys=table.keys,
            partitioner=next(iter(group.inputs.values())).partitioner,
            partitions=group.partitions,
            row_prefix=table.row_prefix,
            key_type=table.key_type,
            value_type=table.values.value_type,
            about=vars(table).get("__doc__") or "",
        )
