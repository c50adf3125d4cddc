"""One partition of a reader: what of it is buffered, and how it becomes chunks."""

import asyncio
from collections import deque

from aiokafka.errors import KafkaError

from headrace.errors import LogError
from headrace.events.position import TopicPartition
from headrace.log.kafka.fetching import Wanted
from headrace.log.kafka.records import Columns, MessageSet
from headrace.log.port import Chunk
from headrace.turns import Turns


class Source:
    """One partition: how far it is fetched, what is buffered, how far it was handed out."""

    def __init__(self, place: TopicPartition, offset: int) -> None:
        self.place = place
        self.offset_to_fetch = offset
        self.offset_next = offset
        self.offset_told = offset
        self.high_watermark = -1
        self.sets: deque[MessageSet] = deque()
        self.columns = Columns()
        self.leader = -1
        self.topic_id = ""
        self.silent_since: float | None = None
        self.failure: LogError | None = None
        self.unpacking: asyncio.Task[None] | None = None
        self.is_paused = False

    @property
    def has_news(self) -> bool:
        """Whether there is something that may be handed out now."""
        return not self.is_paused and self.has_more

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not handed out yet."""
        return bool(self.sets) or len(self.columns) > 0 or self.offset_next > self.offset_told

    @property
    def wanted(self) -> Wanted:
        """What to ask the broker for."""
        return Wanted(self.topic_id, self.place.partition, self.offset_to_fetch)

    async def read(self, *, records_max: int, bytes_max: int, turns: Turns) -> None:
        """Fill the columns from the buffered sets in slices."""
        while self.sets and len(self.columns) < records_max and self.columns.size_bytes < bytes_max:
            first = self.sets[0]
            if self.unpacking is not None:
                await self._unpack(first)
            try:
                is_used_up = first.read_into(
                    self.columns, records_max=records_max, bytes_max=bytes_max, until=turns.until
                )
            except (LogError, KafkaError, ValueError) as error:
                self._give_up(error, first.offset_next)
                is_used_up = False
            self.offset_next, self.high_watermark = first.offset_next, first.high_watermark
            if is_used_up:
                self.sets.popleft()
            elif self.sets and first.must_unpack:
                await self._unpack(first)
            if turns.is_due:
                await turns.give()

    async def _unpack(self, packed: MessageSet) -> None:
        """Decompress in a thread; a cancelled fetch leaves it to the next one to wait for the same."""
        if self.unpacking is None:
            self.unpacking = asyncio.create_task(
                asyncio.to_thread(packed.unpack), name="headrace-kafka-unpack"
            )
        try:
            await asyncio.shield(self.unpacking)
        except (KafkaError, ValueError) as error:
            self._give_up(error, packed.offset_next)
        self.unpacking = None

    def _give_up(self, error: Exception, offset: int) -> None:
        """Nothing behind damaged records is ever handed out; the error is raised by the next fetch."""
        self.sets.clear()
        self.leader = -1
        topic, partition = self.place
        what = f"the records cannot be read: {error}"
        self.failure = LogError(what, topic=topic, partition=partition, offset=offset)
        self.failure.__cause__ = error

    def take(self, records_max: int) -> Chunk | None:
        """What the columns hold, as a chunk; None when there is no progress to tell."""
        columns, offset_next = self.columns, self.offset_next
        if len(columns) > records_max:
            columns = self.columns.split(records_max)
            offset_next = columns.offsets[-1] + 1
        else:
            self.columns = Columns()
        if offset_next <= self.offset_told:
            return None
        self.offset_told = offset_next
        return Chunk(
            self.place.topic,
            self.place.partition,
            columns.offsets,
            columns.timestamps_ms,
            columns.keys,
            columns.values,
            columns.headers,
            offset_next,
            self.high_watermark,
        )
