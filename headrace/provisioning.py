"""Topics as the app needs them: created when they are missing, verified when they are there."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headrace.flow.topic import Topic
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
