"""A relay at work: from the take-over to the first failure, batch after batch.

1. The transactional id fences older couriers; then the cursor is read, and what it says was published
   is deleted. So nothing is published twice, whatever became of the one before.
2. In one SQL transaction the rows of the last batch are deleted and those of the next are read.
3. In one transaction of the log the rows of a batch are published, and the cursor names them.

While a batch is on its way into the log (3), the one before it is deleted and the next is read (2). So the
cursor names both: those of the batch, and those before it, whose deletion may not be committed when it is.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bridge.addressing import Addressing
from headrace.bridge.cursor import Cursor, read_cursor
from headrace.bridge.frontier import Frontier
from headrace.bridge.outboxtable import (
    CHANNEL,
    Left,
    Ranges,
    decode_headers,
    delete,
    ensure_outbox,
    ranges_of,
    read,
)
from headrace.bridge.session import Engine, Session
from headrace.errors import HeadraceError, RecordRefused, RecordTooLarge
from headrace.events.position import Position, TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.flow.takeover import transactional_id, verify_identities
from headrace.flow.topic import Topic
from headrace.log.port import Append, Outgoing, Writer, catalog
from headrace.tables.memory import MemoryStore
from headrace.tables.view import PartitionView

if TYPE_CHECKING:
    from headrace.flow.worksite import Worksite

logger = logging.getLogger(__name__)

ROWS_MAX = 5_000
BYTES_MAX = 4 * 1024 * 1024
LOOK_AGAIN_S = 0.25
"""How often the table is looked at although nobody has notified of anything."""
_SLICE_ROWS = 256


class Load:
    """How much is published at once; what the log refused is found by halving, over take-overs."""

    def __init__(self) -> None:
        self.rows_max = ROWS_MAX
        self.refused: dict[int, HeadraceError] = {}
        """Rows that the log does not take, by id."""

    def was_refused(self, rows: Sequence[Left], error: HeadraceError) -> None:
        """The log did not take these rows in one transaction."""
        if len(rows) == 1:
            self.refused[rows[0].id] = error
        else:
            self.rows_max = len(rows) // 2

    def was_published(self, rows: Sequence[Left]) -> None:
        """The log took these rows."""
        self.rows_max = min(ROWS_MAX, 2 * self.rows_max)
        for row in rows:
            self.refused.pop(row.id, None)


class Courier:
    """Publishes until it is stopped (flow.keeper.Work)."""

    def __init__(
        self,
        site: "Worksite",
        view: PartitionView,
        engine: Engine,
        load: Load,
        *,
        name: str,
        cursor_topic: str,
        topics: Mapping[str, Topic[Any, Any]],
    ) -> None:
        self._site = site
        self._view = view
        self._engine = engine
        self._load = load
        self._name = name
        self._cursor_place = TopicPartition(cursor_topic, 0)
        self._topics = topics
        self._frontier = Frontier()
        self._stopping = asyncio.Event()
        self._undeleted: Ranges = ()
        """Ids of the last batch that was published, until they are deleted."""
        self._cursor = Cursor(0)
        self._addressing: Addressing
        self._rest: Sequence[Left] = ()
        """Rows that were read, and come after the batch in hand."""

    def stop(self) -> None:
        """Finish the batch in hand, close; `run` then returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Take over and publish until `stop`.

        Cancel: a batch whose commit is under way has an unknown outcome, which the cursor tells.
        Raises: the first error, after which everything is closed.
        """
        site = self._site
        writer = await site.log.writer(transactional_id(site.app, self._name, 0))
        try:
            await verify_identities(site.log, [self._cursor_place.topic, *self._topics], site.topics)
            self._cursor = await read_cursor(site.log, self._cursor_place)
            self._addressing = await self._addressed()
            session = await self._engine.connect(purpose=f"headrace {site.app} {self._name}")
            try:
                await ensure_outbox(self._engine, session)
                if self._cursor.published:
                    await delete(self._engine, session, self._cursor.published)
                    await session.commit()
                await self._publish(writer, session)
            finally:
                await session.close()
        finally:
            self._view.close()
            await writer.close()

    async def _addressed(self) -> Addressing:
        site = self._site
        places = [
            TopicPartition(name, p) for name in self._topics for p in range(site.topics[name].partitions)
        ]
        # What comes now follows everything that was published before, by whomever.
        ends = {place: held.end for place, held in (await site.log.offsets(places)).items()}
        return Addressing(
            self._topics,
            site.topics,
            catalog(site.log, site.topics),
            ends,
            name=self._name,
            record_bytes_max=site.settings.record_bytes_max,
        )

    async def _publish(self, writer: Writer, session: Session) -> None:
        waker = await self._engine.waker(CHANNEL)
        stopping = asyncio.create_task(self._stopping.wait(), name=f"stop of {self._name}")
        self._view.serve(MemoryStore(), Position())
        try:
            rows: Sequence[Left] = ()
            while not self._stopping.is_set():
                if rows:
                    rows = await self._commit_and_read_on(writer, session, rows)
                    continue
                rows, self._undeleted = await self._next(session), ()
                if rows:
                    continue
                if self._cursor.published:
                    # All of it is deleted: ids that are used again one day are not taken for it.
                    await self._tell(writer, [], ())
                waiting = asyncio.create_task(waker.wait(LOOK_AGAIN_S), name=f"wake-up of {self._name}")
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                await asyncio.wait({waiting})
                if not waiting.cancelled():
                    waiting.result()
            await self._next(session)
        finally:
            stopping.cancel()
            await waker.close()

    async def _commit_and_read_on(
        self, writer: Writer, session: Session, rows: Sequence[Left]
    ) -> Sequence[Left]:
        """Publish these; meanwhile the ones before them are deleted, and those behind them are read."""
        reading = asyncio.create_task(self._next(session), name=f"next of {self._name}")
        try:
            published = await self._commit(writer, rows)
        except BaseException:
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                # Looked at, or asyncio would warn: what failed first is what is raised.
                reading.exception()
            raise
        behind = await reading
        self._undeleted = published
        return behind

    async def _next(self, session: Session) -> Sequence[Left]:
        """Delete what was published last, and read what comes next."""
        if self._undeleted:
            await delete(self._engine, session, self._undeleted)
        rows = self._rest or await self._look(session)
        await session.commit()
        return self._batch(rows)

    async def _look(self, session: Session) -> Sequence[Left]:
        """The rows that come next; none when there are none."""
        frontier, load = self._frontier, self._load
        while True:
            look = frontier.look()
            found = await read(
                self._engine,
                session,
                look.ranges,
                rows_max=load.rows_max,
                bytes_max=BYTES_MAX,
                needs_bound=frontier.needs_bound,
            )
            ids = [row.id for row in found.rows]
            if found.snapshot is None:
                frontier.passed(ids)
                return found.rows
            is_in_order = frontier.saw(look, ids, found.snapshot, found.bound, is_all=found.is_all)
            if is_in_order and (found.rows or look.is_front):
                return found.rows

    def _batch(self, rows: Sequence[Left]) -> Sequence[Left]:
        batch = self._addressing.batch_of(rows[: self._load.rows_max])
        self._rest = rows[len(batch) :]
        return batch

    async def _commit(self, writer: Writer, rows: Sequence[Left]) -> Ranges:
        """Publish these; the ranges of their ids."""
        appends: dict[TopicPartition, list[Outgoing]] = {}
        for at, row in enumerate(rows):
            place, record = self._record(row)
            appends.setdefault(place, []).append(record)
            if not at % _SLICE_ROWS:
                await asyncio.sleep(0)
        ids = ranges_of([row.id for row in rows])
        published = [Append(*place, records) for place, records in appends.items()]
        try:
            ends = await self._tell(writer, published, (*self._undeleted, *ids))
        except (RecordRefused, RecordTooLarge) as error:
            self._load.was_refused(rows, error)
            raise RecordRefused(error.what, topic=error.topic, partition=error.partition) from error
        self._addressing.published(ends)
        self._load.was_published(rows)
        figures = self._site.figures
        figures.units += 1
        for place, records in appends.items():
            figures.sent[place.topic] += len(records)
        return ids

    async def _tell(
        self, writer: Writer, appends: Sequence[Append], published: tuple[tuple[int, int], ...]
    ) -> Mapping[TopicPartition, int]:
        cursor = Cursor(self._cursor.batch + 1, published)
        now_ms = int(self._site.clock.time() * 1000)
        ends = await writer.commit([*appends, Append(*self._cursor_place, [cursor.record(now_ms)])])
        self._cursor = cursor
        return ends

    def _record(self, row: Left) -> tuple[TopicPartition, Outgoing]:
        """Where an event goes and as what: to its topic, or whole to the dead letters."""
        try:
            if (refusal := self._load.refused.get(row.id)) is not None:
                raise refusal
            return self._addressing.record(row)
        except HeadraceError as error:
            return self._dead_letter(row, error)

    def _dead_letter(self, row: Left, error: HeadraceError) -> tuple[TopicPartition, Outgoing]:
        logger.error("Row %s of the outbox becomes a dead letter: %s", row.id, error)
        try:
            headers = decode_headers(row.headers)
        except msgspec.MsgspecError:
            headers = (("headers", row.headers or b""),)
        at_ms = int(self._site.clock.time() * 1000)
        letter = Letter(
            key=row.key,
            value=row.value,
            headers=headers,
            topic=row.topic,
            partition=0,
            offset=row.id,
            timestamp_ms=row.created_ms,
            group=self._name,
            agent="relay",
            error=type(error).__name__,
            reason=error.what,
            at_ms=at_ms,
        )
        place = TopicPartition(dead_letters_name(self._site.app), 0)
        self._site.figures.dead_letters += 1
        return place, (letter.key, letter.value, letter.to_headers(), at_ms)
