"""One partition of an app's recorded requests: every key of it is answered here, and once."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from headrace.errors import (
    CommitUnknown,
    HeadraceError,
    KeyReused,
    NotOwner,
    RecordRefused,
    RecordTooLarge,
    StoreUnwritable,
)
from headrace.events.position import Position, TopicPartition
from headrace.flow.opening import close_store, open_store, open_trusted
from headrace.flow.requests.answer import (
    Answer,
    RecordedRequest,
    RequestGroup,
    decode_request,
    encode_request,
    is_expired,
)
from headrace.flow.requests.forgetting import forget_now_and_then
from headrace.flow.requests.hours import Hours
from headrace.flow.restore import APPLY_ROWS_MAX, Restore
from headrace.flow.sending import Outbox
from headrace.flow.takeover import transactional_id, verify_identities
from headrace.flow.worksite import Worksite
from headrace.log.port import Append, Closing, OffsetRange, Outgoing, Writer
from headrace.tables.changelog import StoreMark, decode_mark, encode_mark
from headrace.tables.store import Row, Store
from headrace.tables.view import PartitionView, ViewState

logger = logging.getLogger(__name__)

_REQUESTS_MAX = 100
"""Requests that share one transaction, at most."""
_APPLY_BYTES_MAX = 1024 * 1024

AnswerOf = Callable[[Position], Answer]
"""The answer of a request, made once it is known where what it sent lies."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A request whose endpoint has answered, or some keys that are to be forgotten."""

    outbox: Outbox | None
    rows: Callable[[Position], Sequence[Row]]
    done: asyncio.Future[Position]


@dataclass(eq=False, slots=True)
class InHand:
    """A request that is being handled; others of the same key wait for it."""

    fingerprint: bytes
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    is_submitted: bool = False
    recorded: RecordedRequest | None = None
    error: HeadraceError | None = None


class Desk:
    """The owner of one partition: recorded answers, what is in hand, and the only writer of both.

    Requests that wait while one transaction commits share the next. After any failed commit the
    partition is taken over again, and what became of the request is read from the log.
    """

    def __init__(
        self,
        site: Worksite,
        group: RequestGroup,
        partition: int,
        view: PartitionView,
        desks: dict[int, "Desk"],
    ) -> None:
        self._site = site
        self._group = group
        self._partition = partition
        self._view = view
        self._desks = desks
        self._where = TopicPartition(group.changelog, partition)
        self._topic_id = site.topics[group.changelog].topic_id
        self._hours = Hours(site.clock)
        self._offset_next = 0
        self._in_hand: dict[bytes, InHand] = {}
        self._waiting: list[_Entry] = []
        self._wake = asyncio.Event()
        self._is_stopping = False

    # --- life

    def stop(self) -> None:
        """Commit what has been answered, close; `run` then returns."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Take the partition over and serve it until `stop`.

        Cancel: what is being committed has an unknown outcome. Raises: the first error, after which
        everything is closed; whoever takes over reads what was committed.
        """
        try:
            await self._run()
        except RecordTooLarge as error:
            raise RecordRefused(f"a request was refused by the log: {error.what}") from error
        except OSError as error:
            raise StoreUnwritable(f"the store of {'/'.join(map(str, self._where))}: {error}") from error

    async def _run(self) -> None:
        log = self._site.log
        # This order is the protocol, as for a task: nothing can be appended behind the reader's back.
        writer = await log.writer(transactional_id(self._group.app, self._group.name, self._partition))
        try:
            await verify_identities(log, [self._where.topic], self._site.topics)
            store = await self._restored()
            try:
                await self._serve(writer, store)
            finally:
                await close_store(store)
        finally:
            await writer.close()

    async def _restored(self) -> Store:
        """The store with everything that the log holds. Raises: LogError, StoreCorrupt, StoreInUse."""
        site, group, partition = self._site, self._group.name, self._partition
        held = (await site.log.offsets([self._where]))[self._where]
        store = await open_trusted(
            site.engine, group, partition, changelog_id=self._topic_id, held=held, clock=site.clock
        )
        try:
            if _is_behind(store, held):
                await close_store(store)
                site.engine.drop(group, partition)
                store = await open_store(site.engine, group, partition)
            restore = Restore(store, self._where, self._topic_id, self._view, site.clock)
            await restore.run(site.log, held, may_be_cut=True)
        except BaseException:
            await close_store(store)
            raise
        self._offset_next = restore.offset_next
        return store

    async def _serve(self, writer: Writer, store: Store) -> None:
        loop = asyncio.get_running_loop()
        store.damage.watch(lambda: loop.call_soon_threadsafe(self._wake.set))
        forgetting = forget_now_and_then(
            store, partial(self._forget, store), self._hours.expiring_ms, self._site.clock
        )
        purging = asyncio.create_task(forgetting, name="purge of requests")
        self._view.serve(store, Position())
        self._desks[self._partition] = self
        error: HeadraceError = NotOwner(f"the requests of {self._where.topic}/{self._partition} have moved")
        purging.add_done_callback(lambda _: self._wake.set())
        try:
            while self._waiting or not self._is_stopping:
                await self._wake.wait()
                self._wake.clear()
                store.damage.check()
                if purging.done():
                    purging.result()
                while self._waiting:
                    await self._commit(writer, store)
        except HeadraceError as failure:
            error = failure
            raise
        finally:
            self._is_stopping = True
            self._view.close(ViewState.RESTORING)
            del self._desks[self._partition]
            self._abandon(error)
            purging.cancel()
            await asyncio.gather(purging, return_exceptions=True)

    def _abandon(self, error: HeadraceError) -> None:
        """Tell everybody who waits that nothing of theirs will be committed here any more."""
        for entry in self._waiting:
            _fail(entry, error)
        for in_hand in self._in_hand.values():
            in_hand.error = in_hand.error or error
            in_hand.settled.set()
        self._waiting.clear()
        self._in_hand.clear()

    # --- requests

    async def claim(self, key: bytes, fingerprint: bytes) -> InHand:
        """The request as it is recorded, or in the caller's hand from here on (then nothing is `recorded`).

        A request of the same key that is in hand is waited for. What is in the caller's hand it must
        `submit` or `release`. Raises: KeyReused; what kept the one that was waited for from being
        committed; NotOwner, StillRecovering, StoreCorrupt.
        """
        while (other := self._in_hand.get(key)) is not None:
            _check_same(other.fingerprint, fingerprint)
            await other.settled.wait()
            if other.error is not None:
                raise other.error
        self._check_open()
        in_hand = InHand(fingerprint)
        in_hand.recorded = self._recorded(key)
        if in_hand.recorded is None:
            self._in_hand[key] = in_hand
        else:
            _check_same(in_hand.recorded.fingerprint, fingerprint)
        return in_hand

    def release(self, key: bytes, in_hand: InHand) -> None:
        """Give a request up that was not submitted: nothing is recorded, the next of its key is a first."""
        if self._in_hand.get(key) is in_hand and not in_hand.is_submitted:
            del self._in_hand[key]
            in_hand.settled.set()

    async def submit(self, key: bytes, in_hand: InHand, outbox: Outbox, answer: AnswerOf) -> Position:
        """Commit what a request sent together with its answer; the next offsets behind what it sent.

        Cancel: it is committed all the same. Raises: LogError, RecordTooLarge, NotOwner.
        """
        self._check_open()
        in_hand.is_submitted = True

        def rows(position: Position) -> Sequence[Row]:
            recorded_ms = self._hours.recording_ms()
            in_hand.recorded = RecordedRequest(recorded_ms, in_hand.fingerprint, answer(position))
            return [(key, encode_request(in_hand.recorded))]

        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda _: self._settle(key, in_hand, done))
        self._enqueue(_Entry(outbox, rows, done))
        return await asyncio.shield(done)

    def _settle(self, key: bytes, in_hand: InHand, done: "asyncio.Future[Position]") -> None:
        error = done.exception()
        if isinstance(error, HeadraceError):
            in_hand.error, in_hand.recorded = error, None
        if self._in_hand.get(key) is in_hand:
            del self._in_hand[key]
        in_hand.settled.set()

    def _recorded(self, key: bytes) -> RecordedRequest | None:
        raw = self._view.get(key)
        if raw is None or is_expired(raw, self._hours.expiring_ms()):
            return None
        return decode_request(raw)

    def _check_open(self) -> None:
        if self._is_stopping:
            raise NotOwner(f"the requests of {self._where.topic}/{self._partition} are moving")

    def _enqueue(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._wake.set()

    # --- commits

    async def _commit(self, writer: Writer, store: Store) -> None:
        batch, self._waiting = self._waiting[:_REQUESTS_MAX], self._waiting[_REQUESTS_MAX:]
        try:
            positions = await self._commit_batch(writer, store, batch)
            for entry, position in zip(batch, positions, strict=True):
                entry.done.set_result(position)
        except HeadraceError as error:
            for entry in batch:
                _fail(entry, _told(error, len(batch)))
            raise
        finally:
            # Cancelled, or committed and then not written down by the disk: the log knows.
            for entry in batch:
                _fail(entry, CommitUnknown("this was being committed when its partition was closed"))

    async def _commit_batch(self, writer: Writer, store: Store, batch: Sequence[_Entry]) -> list[Position]:
        """Commit and apply these; the position behind what each of them sent."""
        merged: dict[TopicPartition, list[Outgoing]] = {}
        for entry in batch:
            for place, records in entry.outbox.appends.items() if entry.outbox is not None else ():
                merged.setdefault(place, []).extend(records)
        positions: list[Position] = []
        rows: list[Row] = []

        def closing(ends: Mapping[TopicPartition, int]) -> Sequence[Outgoing]:
            for entry in batch:
                sent = entry.outbox.appends if entry.outbox is not None else ()
                positions.append(Position({place: ends[place] for place in sent}))
                rows.extend(entry.rows(positions[-1]))
            now_ms = self._now_ms()
            return [(key, row, (), now_ms) for key, row in rows]

        began = perf_counter()
        appends = [Append(*place, records) for place, records in merged.items()]
        ends = await writer.commit(appends, Closing(*self._where, closing))
        self._offset_next = ends.get(self._where, self._offset_next)
        self._note(batch, merged, perf_counter() - began)
        await self._apply(store, rows)
        return positions

    async def _apply(self, store: Store, rows: Sequence[Row]) -> None:
        """Write rows in slices; the mark tells of them in the last one."""
        slices = list(_slices(rows))
        for at, part in enumerate(slices, 1):
            is_last = at == len(slices)
            mark = StoreMark(self._topic_id, self._offset_next, None, at_ms=self._now_ms())
            store.write(part, encode_mark(mark) if is_last else None)
            if not is_last:
                await asyncio.sleep(0)

    def _note(
        self, batch: Sequence[_Entry], merged: Mapping[TopicPartition, Sequence[Outgoing]], seconds: float
    ) -> None:
        figures = self._site.figures.requests
        figures.recorded += sum(entry.outbox is not None for entry in batch)
        figures.transactions += 1
        figures.commit_time.add(seconds)
        for place, records in merged.items():
            figures.sent[place.topic] += len(records)

    # --- forgetting

    async def _forget(self, store: Store, keys: Sequence[bytes]) -> None:
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._enqueue(_Entry(None, lambda _: self._tombstones(store, keys), done))
        await done

    def _tombstones(self, store: Store, keys: Sequence[bytes]) -> Sequence[Row]:
        """Deletions of what is expired still; a key that is in hand again is left to its request."""
        now_ms = self._hours.expiring_ms()
        rows = ((key, store.get(key)) for key in keys if key not in self._in_hand)
        return [(key, None) for key, raw in rows if raw is not None and is_expired(raw, now_ms)]

    def _now_ms(self) -> int:
        return int(self._site.clock.time() * 1000)


def _is_behind(store: Store, held: OffsetRange) -> bool:
    """Whether records were deleted that the store has not read: it must be made anew to be told the truth."""
    mark = decode_mark(store.mark)
    return mark is not None and mark.changelog_offset_next < held.start


def _check_same(known: bytes, fingerprint: bytes) -> None:
    if known != fingerprint:
        raise KeyReused("this Idempotency-Key was used for another request")


def _told(error: HeadraceError, requests: int) -> HeadraceError:
    """What a request hears of a failed commit: of a record that is refused, only the one that sent it."""
    if requests > 1 and isinstance(error, RecordRefused | RecordTooLarge):
        return NotOwner("another request of the same transaction was refused")
    return error


def _fail(entry: _Entry, error: HeadraceError) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)
        entry.done.exception()  # whoever waited may be gone


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in parts that are written quickly; one empty part where there are none."""
    part: list[Row] = []
    size_bytes = 0
    for row in rows:
        if part and (len(part) >= APPLY_ROWS_MAX or size_bytes >= _APPLY_BYTES_MAX):
            yield part
            part, size_bytes = [], 0
        part.append(row)
        size_bytes += len(row[1] or b"")
    yield part
