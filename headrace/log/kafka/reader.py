"""Committed records of some partitions, read ahead over long polls, one per leader."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from headrace.errors import LogError, OffsetOutOfRange, TopicMismatch, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.codes import DENIED, LEADER_MOVED, Code, refusal
from headrace.log.kafka.connections import Connections
from headrace.log.kafka.fetching import Fetched, FetchRequest, read_fetched
from headrace.log.kafka.records import MessageSet, offset_after
from headrace.log.kafka.source import Source
from headrace.log.port import Chunk
from headrace.settings import Settings
from headrace.turns import Turns
from headrace.vitals import Kind, Vital, Vitals

logger = logging.getLogger(__name__)

_BUFFER_BYTES_MAX = 8 * 1024 * 1024
_ANSWER_BYTES_MAX = 2 * 1024 * 1024
_PARTITION_BYTES_MAX = 1024 * 1024
"""Bounds of one answer, so that taking it off the wire stays short."""
_POLL_WAIT_MS = 500
_RETRY_S, _RETRY_MAX_S = 0.02, 0.5
_MISSING_TOPIC_S = 3.0
"""How long a topic may be unknown, as a new one is until every broker has heard of it."""


def _recreated(topic: str) -> TopicMismatch:
    hint = "Its offsets mean nothing any more: start again, and follow what the error at the start says."
    return TopicMismatch("the topic was recreated", topic=topic, hint=hint)


class KafkaReader:
    """A reader without a consumer group: `read_committed`, from given offsets, never reset.

    It owns its connections. Answers of the brokers are buffered as they come and read into columns
    in `fetch`, so that no more records are built at once than the caller asks for.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        positions: Mapping[TopicPartition, int],
        vitals: Vitals,
    ) -> None:
        self._vitals = vitals
        self._is_closing = False
        self._connections = connections
        self._timeout_s = settings.request_timeout_s
        self._sources = [Source(place, offset) for place, offset in positions.items()]
        self._turn = 0
        self._buffered_bytes = 0
        self._failure: BaseException | None = None
        self._has_arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_moved = asyncio.Event()
        """Set when partitions are paused, go on or have a leader again: polls look again what is theirs."""
        self._is_stale = asyncio.Event()
        self._polls: dict[int, asyncio.Task[None]] = {}
        self._lead: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to read ahead."""
        self._lead = self._start(self._follow_leaders(), "headrace-kafka-reader")

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """See `Reader.fetch`."""
        while True:
            self._has_arrived.clear()
            self._raise_failures()
            if chunks := await self._collect(records_max, bytes_max):
                return chunks
            await self._has_arrived.wait()

    def pause(self, places: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        for source in self._sources:
            source.is_paused = source.place in places
        self._look_for_room()
        self._has_arrived.set()
        self._has_moved.set()

    async def close(self) -> None:
        """See `Reader.close`."""
        self._is_closing = True
        unpacking = [source.unpacking for source in self._sources]
        tasks = [task for task in (self._lead, *self._polls.values(), *unpacking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connections.close()

    async def _collect(self, records_max: int, bytes_max: int) -> list[Chunk]:
        """One chunk of each partition that has news, in turn, within the bounds."""
        turn, self._turn = self._turn, (self._turn + 1) % max(1, len(self._sources))
        chosen: list[tuple[Source, int]] = []
        with Turns() as turns:
            for source in chain(self._sources[turn:], self._sources[:turn]):
                if not source.has_news:
                    continue
                await source.read(records_max=records_max, bytes_max=bytes_max, turns=turns)
                chosen.append((source, records_max))
                records_max -= len(source.columns)
                bytes_max -= source.columns.size_bytes
                if records_max <= 0 or bytes_max <= 0:
                    break
        # No await from here on: a cancelled fetch leaves everything in the columns.
        chunks = [chunk for source, limit in chosen if (chunk := source.take(limit)) is not None]
        self._look_for_room()
        return chunks

    def _look_for_room(self) -> None:
        """Fetch on as long as what is buffered is within the bound; paused partitions take no room."""
        ahead = (each for source in self._sources if not source.is_paused for each in source.sets)
        self._buffered_bytes = sum(each.size_bytes for each in ahead)
        if self._buffered_bytes < _BUFFER_BYTES_MAX:
            self._has_room.set()

    def _raise_failures(self) -> None:
        """What went wrong, once all that came before it has been handed out."""
        if self._failure is not None:
            raise self._failure
        now = time.monotonic()
        for source in self._sources:
            if source.has_more:
                continue
            if source.failure is not None:
                raise source.failure
            if source.silent_since is not None and now - source.silent_since >= self._timeout_s:
                source.silent_since = now
                what = f"no broker has answered for {self._timeout_s:g} s"
                raise Unavailable(what, topic=source.place.topic, partition=source.place.partition)

    async def _follow_leaders(self) -> None:
        """Ask who leads, keep one poll per leader, and ask again whenever a poll gives up."""
        retry_s = _RETRY_S
        while True:
            asked_at = time.monotonic()
            self._is_stale.clear()
            try:
                await self._find_leaders()
            except Unavailable as error:
                logger.debug("leaders cannot be found: %s", error)
                self._mark_silent(self._sources)
                self._is_stale.set()
            led = {source.leader for source in self._sources if source.leader >= 0}
            for node in led:
                if node not in self._polls or self._polls[node].done():
                    self._polls[node] = self._start(self._poll(node), f"headrace-kafka-poll-{node}")
            await self._is_stale.wait()
            was_calm = time.monotonic() - asked_at > 2 * _RETRY_MAX_S
            retry_s = _RETRY_S if was_calm else min(retry_s * 2, _RETRY_MAX_S)
            await asyncio.sleep(retry_s)

    async def _find_leaders(self) -> None:
        topics = sorted({source.place.topic for source in self._sources})
        metadata = await self._connections.metadata(topics)
        for source in self._sources:
            view = metadata.topics.get(source.place.topic)
            if view is not None and view.error_code in DENIED:
                self._refuse(source, view.error_code)
                continue
            if view is None or source.place.partition not in view.leaders:
                self._mark_missing(source)
                continue
            if source.topic_id and view.topic_id != source.topic_id:
                self._fail(source, _recreated(source.place.topic))
                continue
            source.topic_id = view.topic_id
            source.leader = view.leaders[source.place.partition]
            self._has_moved.set()
            if source.leader < 0:
                self._mark_silent([source])
                self._is_stale.set()

    async def _poll(self, node: int) -> None:
        """Fetch from one node as long as it leads a partition, and show that it answers."""
        vital = self._vitals.add(Kind.FETCH, f"the reader of {self._named(node)}")
        try:
            await self._poll_on(node, vital)
        finally:
            self._vitals.remove(vital)

    def _named(self, node: int) -> str:
        mine = (source.place for source in self._sources if source.leader == node)
        return ", ".join(sorted(f"{topic}/{partition}" for topic, partition in mine))

    async def _poll_on(self, node: int, vital: Vital) -> None:
        """One request after the other."""
        turn = 0
        while True:
            await self._has_room.wait()
            mine = [s for s in self._sources if s.leader == node and s.failure is None]
            if not mine:
                return
            mine = [source for source in mine if not source.is_paused]
            if not mine:
                self._has_moved.clear()
                await self._has_moved.wait()
                continue
            turn = (turn + 1) % len(mine)
            request = FetchRequest(
                [each.wanted for each in (*mine[turn:], *mine[:turn])],
                wait_ms=_POLL_WAIT_MS,
                bytes_max=_ANSWER_BYTES_MAX,
                partition_bytes_max=_PARTITION_BYTES_MAX,
            )
            vital.expect()
            try:
                response = await self._connections.send(node, request)
            except Unavailable as error:
                logger.debug("node %s gives no records: %s", node, error)
                self._mark_silent(mine)
                for source in mine:
                    source.leader = -1
                self._is_stale.set()
                return
            vital.rest()
            code, answers = read_fetched(response)
            if code != Code.NONE:
                for source in mine:
                    self._refuse(source, code)
            await self._accept(answers)

    async def _accept(self, answers: Iterable[Fetched]) -> None:
        """Put what a broker answered into the buffer."""
        by_id = {(source.topic_id, source.place.partition): source for source in self._sources}
        turns = Turns()
        for answer in answers:
            source = by_id.get((answer.topic_id, answer.partition))
            if source is None or source.failure is not None:
                continue  # the topic was recreated while this was on its way
            if answer.error_code != Code.NONE:
                self._refuse(source, answer.error_code)
                continue
            source.silent_since = None
            if answer.data:
                self._buffer(source, answer)
            if turns.is_due:
                await turns.give()

    def _buffer(self, source: Source, answer: Fetched) -> None:
        begin = source.offset_to_fetch
        source.offset_to_fetch = offset_after(answer.data, begin)
        if source.offset_to_fetch == begin:
            return  # not one whole batch; this partition comes first in a later request
        high_watermark = answer.high_watermark
        source.sets.append(
            MessageSet(answer.data, answer.aborted, offset_next=begin, high_watermark=high_watermark)
        )
        self._buffered_bytes += len(answer.data)
        if self._buffered_bytes >= _BUFFER_BYTES_MAX:
            self._has_room.clear()
        self._has_arrived.set()

    def _refuse(self, source: Source, code: int) -> None:
        topic, partition = source.place
        if code in LEADER_MOVED:  # or its topic has another id now, which asking for leaders will tell
            source.leader = -1
            self._mark_silent([source])
            self._is_stale.set()
        elif code == Code.OFFSET_OUT_OF_RANGE:
            what, offset = "the log does not hold this offset", source.offset_to_fetch
            self._fail(source, OffsetOutOfRange(what, topic=topic, partition=partition, offset=offset))
        else:
            self._fail(source, refusal("it cannot be read", code, topic=topic, partition=partition))

    def _mark_missing(self, source: Source) -> None:
        self._mark_silent([source])
        self._is_stale.set()
        if time.monotonic() - (source.silent_since or 0.0) >= min(_MISSING_TOPIC_S, self._timeout_s):
            topic, partition = source.place
            self._fail(source, TopicMismatch("it does not exist", topic=topic, partition=partition))

    def _mark_silent(self, sources: Iterable[Source]) -> None:
        now = time.monotonic()
        for source in sources:
            if source.silent_since is None:
                source.silent_since = now
        self._has_arrived.set()

    def _fail(self, source: Source, error: LogError) -> None:
        source.failure = error
        source.leader = -1
        self._has_arrived.set()

    def _start(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """What ends the reading ahead is raised by the next fetch."""
        if task.cancelled():
            self._failure = None if self._is_closing else Unavailable("reading ahead was ended from outside")
        elif (error := task.exception()) is not None:
            self._failure = error
        self._has_arrived.set()
