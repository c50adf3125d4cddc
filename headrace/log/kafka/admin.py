"""Topics and offsets: what the cluster holds, and creating what is missing."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.protocol.admin import (
    CreateTopicsRequest_v3,
    CreateTopicsResponse_v3,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.offset import OffsetRequest

from headrace.errors import TopicMismatch, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.codes import LEADER_MOVED, Code, refusal
from headrace.log.kafka.connections import GROUP, Connections
from headrace.log.kafka.metadata import Metadata
from headrace.log.kafka.patience import patience
from headrace.log.port import OffsetRange, TopicInfo, TopicSpec
from headrace.settings import Settings

_EARLIEST, _LATEST = -2, -1
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1
_TOPIC_RESOURCE = 2
_RETRY_S = 0.05
_TRANSIENT = LEADER_MOVED | {Code.REQUEST_TIMED_OUT, Code.NOT_CONTROLLER, Code.THROTTLING_QUOTA_EXCEEDED}


class _CreateTopicsResponseV4(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 19
    API_VERSION = 4
    SCHEMA = CreateTopicsResponse_v3.SCHEMA


class _CreateTopicsRequestV4(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 19
    API_VERSION = 4
    RESPONSE_TYPE = _CreateTopicsResponseV4
    SCHEMA = CreateTopicsRequest_v3.SCHEMA


class _CreateTopics(Request[_CreateTopicsRequestV4]):  # type: ignore[misc]  # aiokafka carries no types
    """Version 4: the first that leaves the replication factor to the broker (-1)."""

    API_KEY = 19

    def __init__(self, topics: list[tuple[Any, ...]], timeout_ms: int) -> None:
        self._topics = topics
        self._timeout_ms = timeout_ms

    def build(self, request_struct_class: type[_CreateTopicsRequestV4]) -> _CreateTopicsRequestV4:
        return request_struct_class(self._topics, self._timeout_ms, False)


class Admin:
    """Questions to the cluster, each tried again until `request_timeout_s` is over."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._batch_bytes_max: dict[str, int] = {}
        self._led: dict[TopicPartition, int] = {}
        """Which node led a partition when it was last asked."""

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create what is missing, then verify all of it. Raises: as `Log.provision`."""
        names = [spec.name for spec in specs]
        present = await self.describe(names)
        missing = [spec for spec in specs if spec.name not in present]
        for spec in missing:
            if spec.partitions is None:
                hint = "Create it, or let its declaration name the number of partitions."
                raise TopicMismatch("the topic does not exist", topic=spec.name, hint=hint)
        if missing:
            await self._create(missing)
            present = await self._settled(names)
        for spec in specs:
            _verify_partitions(spec, present[spec.name])
        await self._verify_configs([spec for spec in specs if spec not in missing])
        return present

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """The topics that exist among these."""
        return _infos(await self._metadata(names))

    async def topics(self) -> Sequence[TopicInfo]:
        """Every topic but internal ones, in name order."""
        metadata = await self._metadata(None)
        infos = _infos(metadata)
        return [infos[name] for name in sorted(infos) if not metadata.topics[name].is_internal]

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        """Log start, high watermark and last stable offset of each. Raises: as `Log.offsets`."""
        wanted = set(places)
        found: dict[TopicPartition, OffsetRange] = {}
        async with patience(self._settings.request_timeout_s, "offsets cannot be read"):
            while wanted:
                for node, mine in (await self._leaders(wanted)).items():
                    found.update(await self._ranges_at(node, mine))
                wanted -= found.keys()
                if wanted:
                    for place in wanted:
                        self._led.pop(place, None)
                    await asyncio.sleep(_RETRY_S)
        return {place: found[place] for place in places}

    async def commit_offsets(
        self, group: str, generation: int, member_id: str, positions: Mapping[TopicPartition, int]
    ) -> None:
        """Leave positions in a consumer group, tried once. Raises: LogError with the group's reason."""
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for (topic, partition), offset in positions.items():
            topics[topic].append((partition, offset, ""))
        node = await self._connections.coordinator(GROUP, group)
        request = OffsetCommitRequest(group, generation, member_id, -1, list(topics.items()))
        for topic, partitions in (await self._connections.send(node, request)).topics:
            for partition, code in partitions:
                if code != Code.NONE:
                    what = f"group {group} does not take the position"
                    raise refusal(what, code, topic=topic, partition=partition)

    async def members(self, group: str) -> Sequence[str]:
        """The members of a consumer group, as client id and host."""
        node = await self._connections.coordinator(GROUP, group)
        response = await self._connections.send(node, DescribeGroupsRequest([group]))
        found: list[str] = []
        for described in response.groups:
            code, members = described[0], described[5]
            if code != Code.NONE:
                raise refusal(f"group {group} cannot be described", code)
            found += [f"{member[1]} on {member[2].lstrip('/')}" for member in members]
        return sorted(found)

    async def batch_bytes_max(self, topic: str) -> int | None:
        """The largest record batch that a topic takes; None where this user may not ask."""
        if topic not in self._batch_bytes_max:
            configs = await self._configs([topic])
            if "max.message.bytes" not in configs.get(topic, {}):
                return None
            self._batch_bytes_max[topic] = int(configs[topic]["max.message.bytes"])
        return self._batch_bytes_max[topic]

    def forget(self, topic: str) -> None:
        """Ask anew for the batch size of this topic, next time it is wanted."""
        self._batch_bytes_max.pop(topic, None)

    async def _metadata(self, names: Sequence[str] | None) -> Metadata:
        metadata = await self._connections.metadata(names)
        for name, view in metadata.topics.items():
            if view.error_code not in (Code.NONE, *LEADER_MOVED):
                raise refusal("the topic cannot be described", view.error_code, topic=name)
        return metadata

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        """Send one CreateTopics; a topic that another worker created meanwhile is fine."""
        timeout_ms = int(self._settings.request_timeout_s * 1000)
        wanted = {spec.name: spec for spec in specs}
        async with patience(self._settings.request_timeout_s, "topics cannot be created"):
            while wanted:
                metadata = await self._connections.metadata()
                request = _CreateTopics([self._creation(spec) for spec in wanted.values()], timeout_ms)
                node = metadata.controller if metadata.controller in metadata.brokers else -1
                response = await self._connections.send(node if node >= 0 else min(metadata.brokers), request)
                for name, code, message in response.topic_errors:
                    if code in (Code.NONE, Code.TOPIC_ALREADY_EXISTS):
                        del wanted[name]
                    elif code not in _TRANSIENT:
                        raise refusal(f"the topic cannot be created ({message})", code, topic=name)
                if wanted:
                    await asyncio.sleep(_RETRY_S)

    def _creation(self, spec: TopicSpec) -> tuple[Any, ...]:
        configs = {
            "cleanup.policy": "compact" if spec.is_compacted else "delete",
            "retention.ms": spec.retention_ms,
            "min.compaction.lag.ms": spec.compaction_lag_ms if spec.is_compacted else None,
            "delete.retention.ms": spec.delete_retention_ms if spec.is_compacted else None,
            "max.message.bytes": spec.record_bytes_max,
            "min.insync.replicas": _given(self._settings.min_insync_replicas),
        }
        given = [(name, str(value)) for name, value in configs.items() if value is not None]
        return (spec.name, spec.partitions, self._settings.replication_factor, [], given)

    async def _settled(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """The topics once every one has a leader for each partition."""
        async with patience(self._settings.request_timeout_s, "new topics do not get leaders"):
            while True:
                metadata = await self._metadata(names)
                infos = _infos(metadata)
                leaders = [leader for name in infos for leader in metadata.topics[name].leaders.values()]
                if len(infos) == len(set(names)) and min(leaders, default=-1) >= 0:
                    return infos
                await asyncio.sleep(_RETRY_S)

    async def _verify_configs(self, specs: Sequence[TopicSpec]) -> None:
        """Refuse a topic whose settings would lose rows; one that may not be asked is taken as it is."""
        asked = [spec for spec in specs if spec.is_compacted or spec.record_bytes_max is not None]
        configs = await self._configs([spec.name for spec in asked])
        for spec in asked:
            found = configs.get(spec.name, {})
            policy = found.get("cleanup.policy", "compact")
            if spec.is_compacted and policy != "compact":
                hint = f"kafka-configs --alter --topic {spec.name} --add-config cleanup.policy=compact"
                raise TopicMismatch(f"cleanup.policy is {policy}, not compact", topic=spec.name, hint=hint)
            kept_ms = int(found.get("delete.retention.ms", spec.delete_retention_ms or 0))
            if spec.delete_retention_ms is not None and kept_ms < spec.delete_retention_ms:
                what = f"delete.retention.ms is {kept_ms}, and {spec.delete_retention_ms} are needed"
                hint = (
                    f"kafka-configs --alter --topic {spec.name} --add-config "
                    f"delete.retention.ms={spec.delete_retention_ms}"
                )
                raise TopicMismatch(what, topic=spec.name, hint=hint)
            limit = int(found.get("max.message.bytes", spec.record_bytes_max or 0))
            if spec.record_bytes_max is not None and limit < spec.record_bytes_max:
                what = f"max.message.bytes is {limit}, and {spec.record_bytes_max} is needed"
                hint = f"kafka-configs --alter --topic {spec.name} --add-config max.message.bytes=..."
                raise TopicMismatch(what, topic=spec.name, hint=hint)

    async def _configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        if not topics:
            return {}
        names = ["cleanup.policy", "max.message.bytes", "delete.retention.ms"]
        resources = [(_TOPIC_RESOURCE, topic, names) for topic in dict.fromkeys(topics)]
        metadata = await self._connections.metadata()
        response = await self._connections.send(min(metadata.brokers), DescribeConfigsRequest(resources))
        return {
            topic: {entry[0]: entry[1] for entry in entries}
            for code, _, _, topic, entries in response.resources
            if code == Code.NONE
        }

    async def _leaders(self, places: Iterable[TopicPartition]) -> Mapping[int, list[TopicPartition]]:
        """The places by the node that leads them; one that has no leader now is left out."""
        unknown = [place for place in places if place not in self._led]
        if unknown:
            self._led.update(await self._asked_leaders(unknown))
        led: dict[int, list[TopicPartition]] = defaultdict(list)
        for place in places:
            if place in self._led:
                led[self._led[place]].append(place)
        return led

    async def _asked_leaders(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        metadata = await self._metadata(sorted({place.topic for place in places}))
        led: dict[TopicPartition, int] = {}
        for place in places:
            view = metadata.topics.get(place.topic)
            if view is None or view.error_code == Code.UNKNOWN_TOPIC_OR_PARTITION:
                raise TopicMismatch("the topic does not exist", topic=place.topic)
            if view.leaders and place.partition not in view.leaders:
                raise TopicMismatch(
                    "there is no such partition", topic=place.topic, partition=place.partition
                )
            leader = view.leaders.get(place.partition, -1)
            if leader >= 0:
                led[place] = leader
        return led

    async def _ranges_at(
        self, node: int, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetRange]:
        try:
            starts, ends, stable = await asyncio.gather(
                self._offsets_at(node, places, _EARLIEST, _READ_UNCOMMITTED),
                # In this order, in which the node answers: what is committed in between is not open.
                self._offsets_at(node, places, _LATEST, _READ_UNCOMMITTED),
                self._offsets_at(node, places, _LATEST, _READ_COMMITTED),
            )
        except Unavailable:
            for place in places:
                self._led.pop(place, None)
            raise
        answered = starts.keys() & ends.keys() & stable.keys()
        return {p: OffsetRange(starts[p], ends[p], min(ends[p], stable[p])) for p in answered}

    async def _offsets_at(
        self, node: int, places: Sequence[TopicPartition], moment: int, isolation: int
    ) -> Mapping[TopicPartition, int]:
        asked: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for topic, partition in places:
            asked[topic].append((partition, moment))
        # Uncommitted, the latest is the high watermark; committed, the last stable offset.
        request = OffsetRequest(-1, isolation, list(asked.items()))
        found = {}
        for topic, partitions in (await self._connections.send(node, request)).topics:
            for partition, code, _, offset in partitions:
                if code == Code.NONE:
                    found[TopicPartition(topic, partition)] = offset
                elif code not in _TRANSIENT:
                    raise refusal("its offsets cannot be read", code, topic=topic, partition=partition)
        return found


def _infos(metadata: Metadata) -> dict[str, TopicInfo]:
    return {
        name: TopicInfo(name, view.topic_id, len(view.leaders))
        for name, view in metadata.topics.items()
        if view.error_code != Code.UNKNOWN_TOPIC_OR_PARTITION
    }


def _verify_partitions(spec: TopicSpec, info: TopicInfo) -> None:
    if spec.partitions is not None and info.partitions != spec.partitions:
        what = f"the topic has {info.partitions} partitions, and {spec.partitions} are declared"
        hint = "Declare as many as it has, or send to a topic that is partitioned as declared."
        raise TopicMismatch(what, topic=spec.name, hint=hint)


def _given(setting: int) -> int | None:
    return None if setting < 0 else setting
