"""The reader: reads ahead in the background and hands out chunks."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from headrace.errors import LogError, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.embedded.extract import Extract, Segment, Wanted, extract
from headrace.log.embedded.lane import Lane
from headrace.log.embedded.watch import EndWatch
from headrace.log.port import Chunk
from headrace.vitals import Kind, Vitals

AHEAD_RECORDS_MAX = 20_000
AHEAD_BYTES_MAX = 4 * 1024 * 1024
"""Bounds of what one reader keeps decoded and not yet fetched."""
_EXTRACT_RECORDS = 10_000
_EXTRACT_BYTES = 1024 * 1024
"""Bounds of one piece of work on the read lane, which all readers share."""


class _Cursor:
    """One partition: what was read ahead, and where reading goes on."""

    def __init__(self, at: TopicPartition, place: int, position: int, reader: "EmbeddedReader") -> None:
        self.at = at
        self.place = place
        self.position = position
        self.high_watermark = position
        self.is_behind = True
        """There may be more in the file than was read."""
        self.is_paused = False
        self.segments: deque[Segment] = deque()
        self._reader = reader

    def grown(self, end: int) -> None:
        if end > self.position:
            self.is_behind = True
            self._reader.stir()

    def gone(self) -> None:
        # The next look finds out by itself, and says it by name.
        self.is_behind = True
        self._reader.stir()

    def failed(self, error: LogError) -> None:
        self._reader.fail(error)

    def put(self, found: Extract) -> None:
        """Keep what was found. A partition that grew meanwhile stays behind."""
        self.segments.extend(found.segments)
        self.high_watermark = found.end
        if found.segments:
            self.position = found.segments[-1].offset_next
        if not found.is_exhausted:
            self.is_behind = True

    def take(self, records_max: int, bytes_max: int, *, is_first: bool) -> list[Segment]:
        """Segments within the bounds; the first one has a record at least."""
        taken: list[Segment] = []
        while self.segments and records_max > 0:
            segment = self.segments.popleft()
            if len(segment) > records_max or segment.bytes > bytes_max:
                count = segment.count_within(records_max, bytes_max)
                if not count and is_first and not taken:
                    count = 1
                if not count:
                    self.segments.appendleft(segment)
                    break
                if count < len(segment):
                    segment, rest = segment.split(count)
                    self.segments.appendleft(rest)
            taken.append(segment)
            records_max -= len(segment)
            bytes_max -= segment.bytes
        return taken


class EmbeddedReader:
    """Committed records of some partitions from given positions; see the port."""

    def __init__(
        self,
        lane: Lane,
        watch: EndWatch,
        places: Mapping[TopicPartition, int],
        positions: Mapping[TopicPartition, int],
        vitals: Vitals,
    ) -> None:
        self._lane = lane
        self._vitals = vitals
        named = ", ".join(sorted(f"{at.topic}/{at.partition}" for at in positions))
        self._vital = vitals.add(Kind.FETCH, f"the reader of {named}")
        self._watch = watch
        self._cursors = [_Cursor(at, places[at], position, self) for at, position in positions.items()]
        self._turn = 0
        self._is_closed = False
        self._failure: LogError | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_stirred = asyncio.Event()
        self._has_arrived = asyncio.Event()
        # Followed before the first look at the file, so that no commit falls between the two.
        for cursor in self._cursors:
            watch.follow(cursor.place, cursor)
        self._task = asyncio.create_task(self._read_ahead(), name="headrace-embedded-reader")
        self._task.add_done_callback(lambda _: self._has_arrived.set())

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """What has arrived since the last fetch; see the port."""
        while not any(cursor.segments and not cursor.is_paused for cursor in self._cursors):
            if self._is_closed:
                raise LogError("this reader is closed", hint="Take a new one.")
            if self._task.done():
                raise self._ended_by()
            self._has_arrived.clear()
            await self._has_arrived.wait()
        return self._cut(records_max, bytes_max)

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Give out nothing of these partitions; see the port."""
        for cursor in self._cursors:
            cursor.is_paused = cursor.at in places
        self._look_for_room()
        self._has_arrived.set()
        self.stir()

    async def close(self) -> None:
        """Stop reading ahead."""
        if self._is_closed:
            return
        self._is_closed = True
        self._vitals.remove(self._vital)
        for cursor in self._cursors:
            self._watch.unfollow(cursor.place, cursor)
            cursor.segments.clear()
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # a failure that no fetch has asked for belongs to the one who closes

    def _ended_by(self) -> BaseException:
        """Why nothing is read ahead any more; never a cancellation, which would be the caller's own."""
        failure = None if self._task.cancelled() else self._task.exception()
        return failure or Unavailable("reading ahead was ended from outside")

    def stir(self) -> None:
        """Look into the file again."""
        self._is_stirred.set()

    def fail(self, error: LogError) -> None:
        """Let the next fetch raise, once what was read before is handed out."""
        self._failure = error
        self._is_stirred.set()

    async def _read_ahead(self) -> None:
        while True:
            await self._has_room.wait()
            if self._failure is not None:
                raise self._failure
            behind = [cursor for cursor in self._cursors if cursor.is_behind and not cursor.is_paused]
            if not behind:
                self._is_stirred.clear()
                with self._watch.waiting():
                    await self._is_stirred.wait()
                continue
            wanted = []
            for cursor in behind:
                # Before the look: what is committed during it sets the mark again.
                cursor.is_behind = False
                wanted.append(Wanted(cursor.at, cursor.place, cursor.position))
            self._vital.expect()
            try:
                found = await self._lane.run(
                    extract, wanted, records_max=_EXTRACT_RECORDS, bytes_max=_EXTRACT_BYTES
                )
            finally:
                # An error waits for the next fetch, and whoever fetches may take its time.
                self._vital.rest()
            for cursor, each in zip(behind, found, strict=True):
                cursor.put(each)
                self._look_for_room()
                if each.segments:
                    self._has_arrived.set()

    def _cut(self, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        chunks: list[Chunk] = []
        # Another partition comes first each time, so that a full one cannot starve the others.
        order = self._cursors[self._turn :] + self._cursors[: self._turn]
        self._turn = (self._turn + 1) % len(self._cursors)
        for cursor in order:
            if records_max <= 0 or (chunks and bytes_max <= 0):
                break
            if cursor.is_paused:
                continue
            taken = cursor.take(records_max, bytes_max, is_first=not chunks)
            if taken:
                self._look_for_room()
                records_max -= sum(map(len, taken))
                bytes_max -= sum(segment.bytes for segment in taken)
                chunks.append(_chunk(cursor, taken))
        return chunks

    def _look_for_room(self) -> None:
        """Read on as long as what is read ahead is within the bounds; paused partitions take no room."""
        ahead = [segment for cursor in self._cursors if not cursor.is_paused for segment in cursor.segments]
        records, size = sum(map(len, ahead)), sum(segment.bytes for segment in ahead)
        if records < AHEAD_RECORDS_MAX and size < AHEAD_BYTES_MAX:
            self._has_room.set()
        else:
            self._has_room.clear()


def _chunk(cursor: _Cursor, segments: Sequence[Segment]) -> Chunk:
    # A segment without records ends a run: it only moves the position.
    columns = [segment.columns for segment in segments]
    if len(columns) == 1:
        offsets, timestamps_ms, keys, values, headers = columns[0]
    else:
        offsets, timestamps_ms, keys, values, headers = (
            list(chain(*parts)) for parts in zip(*columns, strict=True)
        )
    return Chunk(
        cursor.at.topic,
        cursor.at.partition,
        offsets,
        timestamps_ms,
        keys,
        values,
        headers,
        offset_next=segments[-1].offset_next,
        high_watermark=cursor.high_watermark,
    )
