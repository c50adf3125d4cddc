"""What an app needs before it runs: topics, created when they are missing, and the tables it serves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.declarations import Declarations, check_global_tables
from headrace.errors import DeclarationError
from headrace.events.position import Catalog
from headrace.flow.deadletter import DEAD_LETTERS_EXTRA_BYTES, dead_letters_name
from headrace.flow.group import Group, check_changelog, form_groups
from headrace.flow.members import members_spec
from headrace.flow.requests.answer import NAME as REQUESTS
from headrace.flow.requests.answer import RequestGroup, requests_name, requests_spec
from headrace.flow.topic import Topic
from headrace.http.source import ServedTable
from headrace.http.whiteboard.survey import Survey
from headrace.log.port import Log, TopicInfo, TopicSpec, catalog
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What a run finds once its topics are there."""

    topics: Mapping[str, TopicInfo]
    """The declared ones, and those that headrace keeps for the app."""
    groups: Mapping[str, Group]
    catalog: Catalog
    served: Sequence[ServedTable]
    survey: Survey
    requests: RequestGroup | None
    """Partitions of recorded requests; None for an app without a route that may write."""
    dead_letter_bytes_max: int | None
    """The largest record that the dead-letter topic takes; None: unknown."""


async def provision_run(log: Log, settings: Settings, declared: Declarations) -> Provisioned:
    """Everything that a run of the app stands on. Raises: TopicMismatch, DeclarationError."""
    check_global_tables(declared)
    check_requests(declared)
    topics = await provision(log, settings, declared.topics.values())
    groups = form_groups(
        declared.app_id,
        declared.agents,
        list(declared.tables.values()),
        topics,
        frozenset(declared.starts_latest),
    )
    own, dead_letter_bytes_max = await provision_own(log, declared.app_id, groups)
    requests = await provision_requests(log, declared)
    if requests is not None:
        own = {**own, requests.name: requests}
    if declared.posts:
        own = {**own, **await log.provision([post.spec for post in declared.posts])}
    by_name = {group.name: group for group in groups}
    served = tuple(served_tables(declared, by_name))
    survey = Survey(
        declared.app_id,
        groups=groups,
        topics={name: topics[name] for name in declared.topics},
        served=served,
        routes=declared.routes,
    )
    everything = {**topics, **own}
    return Provisioned(
        topics=everything,
        groups=by_name,
        catalog=catalog(log, everything),
        served=served,
        survey=survey,
        requests=RequestGroup(declared.app_id, requests.partitions) if requests is not None else None,
        dead_letter_bytes_max=dead_letter_bytes_max,
    )


async def provision_own(
    log: Log, app: str, groups: Sequence[Group]
) -> tuple[Mapping[str, TopicInfo], int | None]:
    """The topics that headrace keeps for the app, and the largest record its dead letters may be.

    They are the members of the app, changelog and replay input of each group, and the dead-letter
    topic, which takes every record that an input takes. Raises: TopicMismatch.
    """
    names = sorted({name for group in groups for name in group.inputs})
    limits = await log.record_limits(names)
    limit = max(limits.values()) + DEAD_LETTERS_EXTRA_BYTES if len(limits) == len(names) and names else None
    dead_letters = dead_letters_name(app)
    present = await log.describe([dead_letters])
    partitions = None if dead_letters in present else 1
    specs = [
        members_spec(app),
        # Kept until somebody removes them: what was refused is not to be lost by the passing of time.
        TopicSpec(name=dead_letters, partitions=partitions, retention_ms=-1, record_bytes_max=limit),
        *(group.changelog_spec() for group in groups),
        *(group.replay_spec(limit) for group in groups),
    ]
    infos = await log.provision(specs)
    for group in groups:
        check_changelog(group, infos[group.changelog])
    known = await log.record_limits([dead_letters])
    return infos, known.get(dead_letters)


async def provision_requests(log: Log, declared: Declarations) -> TopicInfo | None:
    """The topic of recorded requests, if a route of the app may write. Raises: TopicMismatch."""
    if not any(route.may_write for route in declared.routes):
        return None
    spec = requests_spec(declared.app_id)
    if spec.name in await log.describe([spec.name]):
        # Whoever created it chose a number; keys stay where they are.
        spec = replace(spec, partitions=None)
    return (await log.provision([spec]))[spec.name]


def check_requests(declared: Declarations) -> None:
    """Refuse declarations that take names of recorded requests. Raises: DeclarationError."""
    name = requests_name(declared.app_id)
    if name in declared.topics:
        raise DeclarationError(f"topic {name} is headrace's own: it holds the answers of requests with a key")
    if any(agent.group == REQUESTS for agent in declared.agents):
        raise DeclarationError(f"the name of group {REQUESTS} is taken by the recorded requests of the app")


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
            partitioner=group.partitioner,
            partitions=group.partitions,
            row_prefix=table.row_prefix,
            renewed=table.renewed if table.renews_rows else None,
            key_type=table.key_type,
            value_type=table.values.value_type,
            about=vars(table).get("__doc__") or "",
        )
