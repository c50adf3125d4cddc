"""One shadow in one run: sampled reads wait here until both sides were seen at one position."""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from headrace.bridge.pin import Stretches, pinned
from headrace.bridge.session import Access, Engine, Session, SqlRow
from headrace.bridge.shadow.findings import Findings
from headrace.bridge.shadow.history import UNKNOWN, row_at
from headrace.clock import Clock, is_set_within
from headrace.errors import BridgeError, HeadraceError, LogError, StatementRefused, TableError
from headrace.events.position import Position, TopicPartition
from headrace.http.whiteboard.board import ShadowCard
from headrace.log.port import Log
from headrace.tables.view import PartitionView
from headrace.tables.watch import RowWatch

if TYPE_CHECKING:
    from headrace.bridge.shadow.declared import Shadow

logger = logging.getLogger(__name__)

_ASKED_PER_SNAPSHOT = 256
"""So many keys are asked of one snapshot: a long one keeps the database from cleaning up."""
_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.2
"""An applier that commits wakes nobody: the database is looked at so often while comparisons wait for it."""
_STUCK_S = 1.0
"""A side that stands still for so long may be as far as there are events: the log is asked."""
_BACK_OFF_S = 1.0
_TOLD_MAX = 20
"""So many differences are in the worker's log; all are counted, and the newest are on the page."""
_UNASKED: Final = object()


@dataclass(slots=True, eq=False)
class Comparison:
    """One sampled read, until it is compared."""

    view: PartitionView
    key: Any
    watch: RowWatch
    began_s: float
    pin: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Where the database stood when it answered."""
    answer: Any = _UNASKED
    """Its answer; `None`: no row."""
    waiter: "asyncio.Future[bool] | None" = None
    """Until the table has come as far."""


class ShadowRun:
    """Compares sampled reads of one table, a bounded number at a time, off the way of the reads."""

    def __init__(
        self,
        shadow: "Shadow[Any, Any]",
        *,
        engine: Engine,
        applier: tuple[str, str],
        inputs: Mapping[str, str],
        log: Log,
        clock: Clock,
        random: Random | None = None,
    ) -> None:
        self.findings = Findings(shadow.table.name)
        self.changed = asyncio.Event()
        """Set when comparisons end next; a new one takes its place then."""
        self._shadow = shadow
        self._engine = engine
        self._applier = applier
        self._inputs = inputs
        """The inputs of the table's group, each with its topic's id."""
        self._stretches = Stretches(log)
        self._clock = clock
        self._random = random or Random()
        self._gap = self._next_gap()
        self._pending: list[Comparison] = []
        self._sampled = asyncio.Event()
        self._reached = asyncio.Event()
        """Set when a table has come as far as the database was."""
        self._session: Session | None = None
        self._stood: dict[TopicPartition, tuple[int, float]] = {}
        """Where the database was seen to stand at each place, and since when."""

    # --- on the way of the reads

    def served(self, view: PartitionView, store_key: bytes, row: bytes | None) -> None:
        """A read is answered with this row: one in so many is compared."""
        self._gap -= 1
        if self._gap > 0:
            return
        self._gap = self._next_gap()
        if len(self._pending) >= self._shadow.waiting_max:
            self.findings.dropped += 1
            return
        table = self._shadow.table
        key = table.keys.from_store(store_key[len(table.row_prefix) :])
        watch = view.watched_rows.open(table.row_prefix, key, store_key, row, view.position)
        self._pending.append(Comparison(view, key, watch, self._clock.monotonic()))
        self.findings.waiting += 1
        self._sampled.set()

    def _next_gap(self) -> int:
        """How many reads on the next sampled one is: any read is as likely as any other."""
        share = self._shadow.sample
        if share >= 1.0:
            return 1
        return 1 + int(math.log(1.0 - self._random.random()) / math.log1p(-share))

    def card(self, shown_max: int = 20) -> ShadowCard:
        """What was found so far, with the newest differences."""
        return self.findings.card(shown_max)

    # --- off the way

    async def run(self) -> None:
        """Compare what is sampled, until cancelled; a database that is gone costs samples, nothing else."""
        pause_s = _PAUSE_S
        try:
            while True:
                if not self._pending:
                    await self._sampled.wait()
                self._sampled.clear()
                self._reached.clear()
                try:
                    is_moving = await self._round()
                except (BridgeError, StatementRefused, LogError) as error:
                    await self._give_up(error)
                    continue
                if is_moving:
                    pause_s = _PAUSE_S
                elif self._pending:
                    await is_set_within(self._reached, pause_s, self._clock)
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        finally:
            for each in self._pending:
                self._close(each)
            self._pending.clear()
            await self._disconnect()

    async def _give_up(self, error: HeadraceError) -> None:
        """Let go of what waits: the database is asked again with what is sampled later."""
        table = self._shadow.table.name
        logger.warning(
            "Shadow reads of %s: %s comparisons are given up: %s", table, len(self._pending), error
        )
        self.findings.failed += len(self._pending)
        self._drop(self._pending)
        await self._disconnect()
        await self._clock.sleep(_BACK_OFF_S)

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _round(self) -> bool:
        """Bring every comparison as far as it gets now; whether any got further."""
        self._expire()
        asked = await self._ask([each for each in self._pending if each.answer is _UNASKED])
        done: list[Comparison] = []
        for each in [each for each in self._pending if each.answer is not _UNASKED]:
            if not self._is_lacking(each):
                if self._judge(each):
                    done.append(each)
                await asyncio.sleep(0)
        self._drop(done)
        return asked > 0 or bool(done)

    def _expire(self) -> None:
        oldest_s = self._clock.monotonic() - self._shadow.patience_s
        late = [each for each in self._pending if each.watch.is_lost or each.began_s < oldest_s]
        self.findings.undecided += len(late)
        self._drop(late)

    def _drop(self, comparisons: Sequence[Comparison]) -> None:
        gone = set(map(id, comparisons))
        for each in comparisons:
            self._close(each)
        self._pending = [each for each in self._pending if id(each) not in gone]
        self.findings.waiting = len(self._pending)
        if comparisons:
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()

    def _close(self, each: Comparison) -> None:
        if each.waiter is not None:
            each.waiter.cancel()
        each.view.watched_rows.close(self._shadow.table.row_prefix, each.key, each.watch)

    # --- the database's side

    async def _ask(self, waiting: Sequence[Comparison]) -> int:
        """Ask the database for the keys whose position it has reached, all in one snapshot; how many."""
        if not waiting:
            return 0
        if self._session is None:
            purpose = f"headrace shadow of {self._shadow.table.name}"
            self._session = await self._engine.connect(Access.SNAPSHOT, purpose=purpose)
        session, asked = self._session, 0
        behind: set[int] = set()
        """Partitions in which the database has to come further; what was sampled later wants no less."""
        try:
            position = await pinned(session, self._applier, self._inputs)
            self._note_standing(position)
            for each in waiting:
                partition = each.view.partition
                if partition in behind or each.watch.is_lost:
                    continue
                pin = {place: offset for place, offset in position.items() if place.partition == partition}
                if not await self._has_reached(pin, each.watch.position):
                    behind.add(partition)
                    continue
                if pin == each.pin:
                    continue  # no row stood for this position; another one is to come
                each.answer = await self._fetched(session, each)
                each.pin = pin
                asked += 1
                if asked == _ASKED_PER_SNAPSHOT:
                    break
        finally:
            await session.rollback()
        return asked

    async def _fetched(self, session: Session, each: Comparison) -> SqlRow | None:
        rows = await session.fetch(self._shadow.query, self._shadow.parameters(each.key))
        if len(rows) > 1:
            raise StatementRefused(
                f"the query of the shadow of {self._shadow.table.name} gives {len(rows)} rows for one key",
                hint="Let it give one row, or none.",
            )
        return rows[0] if rows else None

    def _note_standing(self, position: Position) -> None:
        now_s = self._clock.monotonic()
        for place, offset in position.items():
            known = self._stood.get(place)
            if known is None or known[0] != offset:
                self._stood[place] = (offset, now_s)

    async def _has_reached(self, pin: Mapping[TopicPartition, int], wanted: Position) -> bool:
        """Whether the database contains what a row contained when its watch began."""
        if not pin:
            return False
        for place, offset in pin.items():
            end = wanted.get(place, 0)
            if offset >= end:
                continue
            if self._clock.monotonic() - self._stood[place][1] < _STUCK_S:
                return False
            # What ends transactions takes offsets, too, and an applier that sees nothing else stands still.
            if not await self._stretches.is_empty(place, offset, end):
                return False
        return True

    # --- the table's side

    def _is_lacking(self, each: Comparison) -> bool:
        """Whether the table has to come as far as the database was; then its commit wakes us."""
        if each.waiter is not None and not each.waiter.done():
            return True
        try:
            missing = each.view.lacking(Position(each.pin))
            if not missing:
                return False
            each.waiter = each.view.waiter(missing)
            each.waiter.add_done_callback(self._note_reached)
        except TableError:
            # It is not served any more; what was noted of it is lost.
            each.watch.lose()
        return True

    def _note_reached(self, waiter: "asyncio.Future[bool]") -> None:
        if not waiter.cancelled():
            waiter.exception()  # whoever looks next is told the same
        self._reached.set()

    def _judge(self, each: Comparison) -> bool:
        """Compare both answers, or let the database be asked once more; whether it is done with."""
        if each.watch.is_lost:
            return False
        row = row_at(each.watch, each.pin)
        if row is UNKNOWN:
            each.answer = _UNASKED
            return False
        shadow, findings = self._shadow, self.findings
        try:
            in_table = None if row is None else shadow.value(shadow.table.values.decoded(row))
            in_database = None if each.answer is None else shadow.row(each.answer)
            is_same = bool(in_table == in_database)
        except Exception:
            # The app's own functions; reads have nothing to do with what they raise.
            logger.exception("Shadow reads of %s: the row %r is not compared", shadow.table.name, each.key)
            findings.failed += 1
        else:
            if is_same:
                findings.agreed += 1
            else:
                self._tell(each, in_table, in_database)
        return True

    def _tell(self, each: Comparison, in_table: Any, in_database: Any) -> None:
        key = self._shadow.table.keys.to_wire(each.key).decode(errors="replace")
        found = self.findings.differs(key, each.pin, in_table, in_database, self._clock.time())
        if self.findings.differing > _TOLD_MAX:
            return
        logger.warning(
            "Shadow reads of %s: %s differs at %s: %s here, %s in the database",
            self._shadow.table.name,
            key,
            found.position,
            found.in_table,
            found.in_database,
        )
