"""Reading the simulated log: straight from the cluster's memory."""

import asyncio
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence

from headrace.errors import LogError, OffsetOutOfRange, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.log.port import Chunk
from headrace.log.simulated.cluster import Partition, SimulatedCluster, record_bytes


class SimulatedReader:
    """Records of some partitions from given positions; see the port."""

    def __init__(self, cluster: SimulatedCluster, positions: Mapping[TopicPartition, int]) -> None:
        self._cluster = cluster
        self._positions = dict(positions)
        self._partitions = {place: cluster.partition(place) for place in positions}
        self._turn = 0
        self._paused: frozenset[TopicPartition] = frozenset()
        self._is_closed = False
        self._has_changed = asyncio.Event()
        for partition in self._partitions.values():
            partition.followers[self._has_changed] = None

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """What has arrived since the last fetch; see the port."""
        await self._cluster.hop()
        while True:
            if self._is_closed:
                raise LogError("this reader is closed", hint="Take a new one.")
            chunks = self._cut(records_max, bytes_max)
            if chunks:
                return chunks
            self._has_changed.clear()
            await self._has_changed.wait()

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Give out nothing of these partitions; see the port."""
        self._paused = frozenset(places)
        self._has_changed.set()

    async def close(self) -> None:
        """Read no more."""
        self._is_closed = True
        for partition in self._partitions.values():
            partition.followers.pop(self._has_changed, None)
        self._has_changed.set()

    def _cut(self, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        chunks: list[Chunk] = []
        places = list(self._positions)
        # Another partition comes first each time, so that a full one cannot starve the others.
        order = places[self._turn :] + places[: self._turn]
        self._turn = (self._turn + 1) % len(places)
        for place in order:
            partition = self._partitions[place]
            self._check(place, partition)
            if place in self._paused:
                continue
            if self._positions[place] >= partition.stable or records_max <= 0 or (chunks and bytes_max <= 0):
                continue
            begin = bisect_left(partition.offsets, self._positions[place])
            end = bisect_left(partition.offsets, partition.stable)
            count, size = _fit(
                partition, begin, min(records_max, end - begin), bytes_max, is_first=not chunks
            )
            if count or begin == end:
                chunks.append(
                    self._chunk(place, partition, begin, begin + count, is_last=begin + count == end)
                )
                records_max -= count
                bytes_max -= size
        return chunks

    def _check(self, place: TopicPartition, partition: Partition) -> None:
        topic = self._cluster.topics.get(place.topic)
        if topic is None or partition not in topic.partitions:
            raise TopicMismatch("the topic was deleted while it was read", topic=place.topic)
        position = self._positions[place]
        if not partition.start <= position <= partition.end:
            raise OffsetOutOfRange(
                f"the log holds {partition.start} up to before {partition.end}, not {position}",
                topic=place.topic,
                partition=place.partition,
                offset=position,
            )

    def _chunk(
        self, place: TopicPartition, partition: Partition, begin: int, end: int, *, is_last: bool
    ) -> Chunk:
        offset_next = partition.stable if is_last else partition.offsets[end]
        self._positions[place] = offset_next
        return Chunk(
            place.topic,
            place.partition,
            partition.offsets[begin:end],
            partition.timestamps_ms[begin:end],
            partition.keys[begin:end],
            partition.values[begin:end],
            partition.headers[begin:end],
            offset_next=offset_next,
            high_watermark=partition.end,
        )


def _fit(
    partition: Partition, begin: int, records_max: int, bytes_max: int, *, is_first: bool
) -> tuple[int, int]:
    """How many records from index `begin` stay within the bounds, and their bytes; one if it is the first."""
    size = 0
    end = min(begin + records_max, len(partition.offsets))
    for at in range(begin, end):
        added = record_bytes(partition.keys[at], partition.values[at], partition.headers[at])
        if size + added > bytes_max and not (is_first and at == begin):
            return at - begin, size
        size += added
    return end - begin, size
