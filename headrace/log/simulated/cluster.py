"""The cluster that simulated logs share: topics, epochs and groups, all in memory.

Nothing here depends on time, threads or chance: the same calls in the same order give the same
offsets and ids. Offsets are used up by transaction markers as Kafka's are, so that whoever counts
records instead of following `offset_next` is found out. A transaction may also be appended to step by
step and be left open (`transaction`): nobody reads beyond where it begins until it is ended.
"""

import asyncio
import uuid
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from headrace.errors import Fenced, OffsetOutOfRange, RecordRefused, RecordTooLarge, TopicMismatch
from headrace.events.envelope import Headers
from headrace.events.position import TopicPartition
from headrace.log.port import Append, OffsetRange, Outgoing, TopicInfo, TopicSpec
from headrace.log.simulated.group import Group

RECORD_BYTES_MAX = 1024 * 1024
_NAMESPACE = uuid.UUID("6f3b1f6e-6d0c-4f0e-9d55-5c5a0f6f9a11")


class Partition:
    """The records of one partition, by columns, in offset order."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.offsets: list[int] = []
        self.timestamps_ms: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers] = []
        self.open: list[int] = []
        """Where transactions begin that are not ended yet."""
        self.followers: dict[asyncio.Event, None] = {}
        """Set by everything that moves the end, in the order they came: a set would shuffle it."""

    @property
    def stable(self) -> int:
        """Up to where it can be read: to its end, or to where the first open transaction begins."""
        return min(self.open, default=self.end)

    def append(self, records: Sequence[Outgoing]) -> int:
        """Add records and the marker that commits them; the result is the offset after the last record."""
        for key, value, headers, timestamp_ms in records:
            self.offsets.append(self.end)
            self.timestamps_ms.append(timestamp_ms)
            self.keys.append(key)
            self.values.append(value)
            self.headers.append(tuple(headers))
            self.end += 1
        behind = self.end
        self.mark()
        return behind

    def reserve(self, records: int) -> int:
        """Use up so many offsets for records of a transaction that is open; the first of them."""
        start = self.end
        self.open.append(start)
        self.end += records
        return start

    def end_open(self, start: int, records: Sequence[Outgoing]) -> None:
        """End what was reserved there: with its records, or without any if it is aborted."""
        self.open.remove(start)
        at = bisect_left(self.offsets, start)
        self.offsets[at:at] = range(start, start + len(records))
        self.timestamps_ms[at:at] = [record[3] for record in records]
        self.keys[at:at] = [record[0] for record in records]
        self.values[at:at] = [record[1] for record in records]
        self.headers[at:at] = [tuple(record[2]) for record in records]

    def mark(self) -> None:
        """Add a marker: an offset without a record."""
        self.end += 1
        for follower in self.followers:
            follower.set()

    def keep(self, indexes: Sequence[int]) -> None:
        """Forget all records but those at these indexes; their offsets stay."""
        self.offsets = [self.offsets[at] for at in indexes]
        self.timestamps_ms = [self.timestamps_ms[at] for at in indexes]
        self.keys = [self.keys[at] for at in indexes]
        self.values = [self.values[at] for at in indexes]
        self.headers = [self.headers[at] for at in indexes]


class Topic:
    """A topic and its partitions."""

    def __init__(self, spec: TopicSpec, topic_id: str, partitions: int) -> None:
        self.spec = spec
        self.info = TopicInfo(spec.name, topic_id, partitions)
        self.partitions = [Partition() for _ in range(partitions)]

    @property
    def record_bytes_max(self) -> int:
        """The largest record it takes."""
        return self.spec.record_bytes_max or RECORD_BYTES_MAX


class SimulatedCluster:
    """What the workers of a simulation have in common."""

    def __init__(self, name: str = "simulated") -> None:
        self.cluster_id = str(uuid.uuid5(_NAMESPACE, name))
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.lag: dict[str, dict[TopicPartition, int]] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}
        self._topics_made = 0

    async def hop(self) -> None:
        """Where a real log would be waited for: others run meanwhile. Simulations add their faults here."""
        await asyncio.sleep(0)

    def group(self, app: str) -> Group:
        """The workers of an app."""
        return self.groups.setdefault(app, Group())

    def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create what is missing, after all of it is verified. Raises: TopicMismatch."""
        for spec in specs:
            self._verify(spec)
        for spec in specs:
            if spec.name not in self.topics and spec.partitions is not None:
                self._topics_made += 1
                topic_id = str(uuid.uuid5(_NAMESPACE, f"{self.cluster_id} {self._topics_made}"))
                self.topics[spec.name] = Topic(spec, topic_id, spec.partitions)
        return {spec.name: self.topics[spec.name].info for spec in specs}

    def _verify(self, spec: TopicSpec) -> None:
        topic = self.topics.get(spec.name)
        if topic is None and spec.partitions is None:
            raise TopicMismatch("the topic does not exist", topic=spec.name)
        if topic is not None and spec.partitions not in (None, topic.info.partitions):
            raise TopicMismatch(
                f"the topic has {topic.info.partitions} partitions, {spec.partitions} are declared",
                topic=spec.name,
            )
        if topic is not None and topic.record_bytes_max < (spec.record_bytes_max or 0):
            raise TopicMismatch(
                f"it takes records of up to {topic.record_bytes_max} bytes, "
                f"and {spec.record_bytes_max} are needed",
                topic=spec.name,
            )

    def delete(self, name: str) -> None:
        """Remove a topic with its records; who waits for it is told."""
        topic = self.topics.pop(name, None)
        if topic is not None:
            for partition in topic.partitions:
                partition.mark()

    def compact(self, name: str, *, purges_tombstones: bool = False) -> None:
        """Forget every record of the topic that a later one of its key has overtaken.

        With `purges_tombstones` as long after it as delete.retention.ms says: deletions are forgotten, too.
        """
        for partition in self.topics[name].partitions:
            last = dict(zip(partition.keys, partition.offsets, strict=True))
            partition.keep(
                [
                    at
                    for at, (key, offset) in enumerate(zip(partition.keys, partition.offsets, strict=True))
                    if last[key] == offset and not (purges_tombstones and partition.values[at] is None)
                ]
            )

    def trim(self, place: TopicPartition, start: int) -> None:
        """Forget what lies before an offset, as retention does. Raises: TopicMismatch, OffsetOutOfRange."""
        partition = self.partition(place)
        if start > partition.end:
            raise OffsetOutOfRange(f"the partition ends at {partition.end}", offset=start)
        partition.start = max(partition.start, start)
        partition.keep(range(bisect_left(partition.offsets, start), len(partition.offsets)))

    def partition(self, place: TopicPartition) -> Partition:
        """The partition at this place. Raises: TopicMismatch."""
        topic = self.topics.get(place.topic)
        if topic is None or not 0 <= place.partition < topic.info.partitions:
            raise TopicMismatch("there is no such partition", topic=place.topic, partition=place.partition)
        return topic.partitions[place.partition]

    def range(self, place: TopicPartition) -> OffsetRange:
        """What a partition holds; a transaction is never half in it. Raises: TopicMismatch."""
        partition = self.partition(place)
        return OffsetRange(partition.start, partition.end, partition.stable)

    def begin_epoch(self, transactional_id: str) -> int:
        """The next epoch of an id: commits under older ones are refused, an open one is aborted."""
        open_one = self._open.get(transactional_id)
        if open_one is not None:
            open_one.abort()
        self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
        return self._epochs[transactional_id]

    def commit(
        self, transactional_id: str, epoch: int, appends: Sequence[Append]
    ) -> Mapping[TopicPartition, int]:
        """Append all of it or nothing. Raises: Fenced, RecordTooLarge, RecordRefused."""
        self.check_epoch(transactional_id, epoch)
        records: dict[TopicPartition, list[Outgoing]] = {}
        for append in appends:
            self.check(append)
            records.setdefault(TopicPartition(append.topic, append.partition), []).extend(append.records)
        return {place: self.partition(place).append(records[place]) for place in records}

    def transaction(self, transactional_id: str, epoch: int) -> "Transaction":
        """A transaction that is appended to and ended step by step. Raises: Fenced."""
        self.check_epoch(transactional_id, epoch)
        begun = self._open[transactional_id] = Transaction(self, transactional_id, epoch)
        return begun

    def check_epoch(self, transactional_id: str, epoch: int) -> None:
        """Raises: Fenced for an epoch that is over."""
        if self._epochs[transactional_id] != epoch:
            raise Fenced(f"another holder of {transactional_id!r} has taken over")

    def forget(self, transactional_id: str) -> None:
        """The open transaction of an id is ended."""
        del self._open[transactional_id]

    def ends_behind(self, appends: Sequence[Append]) -> Mapping[TopicPartition, int]:
        """Where each partition would end behind these records. Raises: RecordTooLarge, RecordRefused."""
        ends: dict[TopicPartition, int] = {}
        for append in appends:
            self.check(append)
            place = TopicPartition(append.topic, append.partition)
            ends[place] = ends.get(place, self.partition(place).end) + len(append.records)
        return ends

    def check(self, append: Append) -> None:
        """Raises: RecordTooLarge, RecordRefused."""
        topic = self.topics.get(append.topic)
        at = TopicPartition(append.topic, append.partition)
        if topic is None or not 0 <= append.partition < topic.info.partitions:
            raise RecordRefused("there is no such partition to append to", **at._asdict())
        limit = topic.record_bytes_max
        for key, value, headers, _ in append.records:
            if topic.spec.is_compacted and key is None:
                raise RecordRefused("a compacted topic takes no record without a key", **at._asdict())
            size = record_bytes(key, value, headers)
            if size > limit:
                raise RecordTooLarge(
                    f"a record of {size} bytes is above the limit of {limit}", **at._asdict()
                )


class Transaction:
    """A transaction between its beginning and its end; its offsets are used up, whatever becomes of it."""

    def __init__(self, cluster: SimulatedCluster, transactional_id: str, epoch: int) -> None:
        self.appends: list[Append] = []
        self._cluster = cluster
        self._id = transactional_id
        self._epoch = epoch
        self._parts: list[tuple[TopicPartition, Partition, int, Sequence[Outgoing]]] = []
        self._is_open = True

    def append(self, append: Append) -> None:
        """Append records; nobody reads them before `commit`. Raises: as `commit`, and as `check`."""
        self._cluster.check_epoch(self._id, self._epoch)
        self._cluster.check(append)
        place = TopicPartition(append.topic, append.partition)
        partition = self._cluster.partition(place)
        self._parts.append((place, partition, partition.reserve(len(append.records)), append.records))
        self.appends.append(append)

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """Where each partition ends behind what was appended."""
        return {place: start + len(records) for place, _, start, records in self._parts}

    def commit(self) -> Mapping[TopicPartition, int]:
        """Let everybody read it; the next offset behind it in each partition. Raises: Fenced."""
        self._cluster.check_epoch(self._id, self._epoch)
        if not self._is_open:
            raise Fenced(f"the transaction of {self._id!r} was aborted meanwhile")
        self._end(is_committed=True)
        return self.ends

    def abort(self) -> None:
        """Let nobody ever read it; nothing happens when it is ended."""
        if self._is_open:
            self._end(is_committed=False)

    def _end(self, *, is_committed: bool) -> None:
        self._is_open = False
        self._cluster.forget(self._id)
        for _, partition, start, records in self._parts:
            partition.end_open(start, records if is_committed else ())
        for partition in dict.fromkeys(partition for _, partition, _, _ in self._parts):
            partition.mark()


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """How large a record counts: key, value and headers."""
    return len(key or b"") + len(value or b"") + sum(len(name) + len(content) for name, content in headers)
