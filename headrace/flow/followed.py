"""One partition of a global table while it is followed: records become units, units become visible."""

from headrace.clock import Clock
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.applying import apply_rows
from headrace.flow.causality import input_print
from headrace.flow.group import CHANGELOG_COMPACTION_LAG_MS, Group
from headrace.flow.restore import row_key
from headrace.log.port import Chunk
from headrace.tables.changelog import (
    POSITION_KEY,
    PositionRecord,
    StoreMark,
    encode_mark,
    follow_unit,
)
from headrace.tables.globalview import GlobalView
from headrace.tables.store import Store
from headrace.tables.view import Layer, ViewState
from headrace.turns import Turns

BEHIND_MS_MAX = CHANGELOG_COMPACTION_LAG_MS // 2
"""Units that were written longer ago may be torn soon; half, so that there is time to read them."""
_SLICE_RECORDS = 256


class FellBehind(Exception):
    """Compaction has, or may have, torn the units that come next."""


class FollowedPartition:
    """The store of one partition, and what has arrived of the unit that comes next."""

    def __init__(
        self,
        group: Group,
        followed: GlobalView,
        partition: int,
        store: Store,
        *,
        changelog_id: str,
        last: PositionRecord | None,
        offset_next: int,
        clock: Clock,
    ) -> None:
        self.offset_next = offset_next
        """Where reading goes on: behind the last whole unit."""
        self._group = group
        self._followed = followed
        self._view = followed.partitions[partition]
        self._store = store
        self._changelog_id = changelog_id
        self._last = last
        self._clock = clock
        self._rows: dict[bytes, bytes | None] = {}
        """Rows of the unit that has not arrived in full."""
        self._whole: dict[bytes, bytes | None] = {}
        """Rows of units that have."""
        self._offset_in_unit: int | None = None
        """Where the next record of the same unit must be."""
        self._at_end_ms = self._now_ms()
        """When all of the changelog was here."""
        self._goal = (offset_next, self._at_end_ms)
        """What there was to be read, and when: once it is reached, all of that time is here."""
        self._seen = (b"", NOTHING_SEEN)

    def begin(self) -> None:
        """Answer from the store, unless the group is being rebuilt: a table half folded is not shown."""
        if not self._is_rebuilding:
            self._view.serve(self._store, *self._vectors())
            self._followed.moved()
        self._note_shown()

    def forget(self) -> None:
        """What has arrived of the next unit will arrive again."""
        self._rows, self._offset_in_unit = {}, None

    async def take(self, chunk: Chunk) -> None:
        """Take what follows in the changelog.

        Order: whole units become visible together with their position, then go to the store. Cancel:
        the store is caught up by the next restore. Raises: FellBehind, ForkedChangelog, OSError,
        StoreCorrupt.
        """
        self._check_pace(chunk)
        before = self._last
        with Turns() as turns:
            for start in range(0, len(chunk), _SLICE_RECORDS):
                self._absorb(chunk, start, min(start + _SLICE_RECORDS, len(chunk)))
                if turns.is_due:
                    await turns.give()
        if self._offset_in_unit is None:
            self.offset_next = chunk.offset_next
        self._note_pace(chunk)
        self._followed.ends[chunk.partition] = chunk.high_watermark
        if self._last is not before:
            layer, self._whole = self._whole, {}
            self._show(layer)
            await self._apply(layer)
        self._note_shown()

    def _note_shown(self) -> None:
        partition = self._view.partition
        self._followed.shown[partition] = self.offset_next
        self._followed.ends[partition] = max(self.offset_next, self._followed.ends.get(partition, 0))

    # --- units

    def _absorb(self, chunk: Chunk, start: int, stop: int) -> None:
        for index in range(start, stop):
            key, offset = chunk.keys[index], chunk.offsets[index]
            if self._offset_in_unit not in (None, offset):
                raise FellBehind(f"records before offset {offset} are missing within a unit")
            if key == POSITION_KEY:
                self._end_unit(chunk, index)
            else:
                self._rows[row_key(chunk, index)] = chunk.values[index]
                self._offset_in_unit = offset + 1

    def _end_unit(self, chunk: Chunk, index: int) -> None:
        offset = chunk.offsets[index]
        record = follow_unit(
            self._last,
            chunk.values[index] or b"",
            topic=chunk.topic,
            partition=chunk.partition,
            offset=offset,
        )
        if self._last is not None and record.unit != self._last.unit + 1:
            raise FellBehind(f"unit {record.unit} follows unit {self._last.unit}")
        self._last = record
        self._whole.update(self._rows)
        self.forget()
        self.offset_next = offset + 1

    # --- readers and store

    @property
    def _is_rebuilding(self) -> bool:
        """Whether a reset is not finished: rows of events that were folded before are missing."""
        reset = self._last.reset if self._last is not None else None
        return reset is not None and (reset.is_clearing or bool(reset.muted_until))

    def _show(self, layer: Layer) -> None:
        view = self._view
        if self._is_rebuilding:
            if view.state is ViewState.SERVING:
                view.close(ViewState.RESTORING)
        elif view.state is ViewState.SERVING:
            view.publish(layer, *self._vectors())
        # In the same turn: who finds a row must find the position that it stands for.
        self._followed.moved()

    async def _apply(self, layer: Layer) -> None:
        mark = StoreMark(self._changelog_id, self.offset_next, self._last, at_ms=self._at_end_ms)
        await apply_rows(self._store, layer, encode_mark(mark))
        self._view.retire(layer)
        if self._view.state is ViewState.RESTORING:
            self.begin()

    def _vectors(self) -> tuple[Position, Seen]:
        """How far the rows are in the inputs, and what they contain beyond."""
        group, partition = self._group, self._view.partition
        # Where nothing is said of an input the rows are at its beginning: a read may wait for more.
        position = Position({TopicPartition(name, partition): 0 for name in group.inputs})
        if self._last is None:
            return position, NOTHING_SEEN
        inputs = self._last.inputs
        if group.replay in inputs:
            self._view.replay_offset_next = inputs[group.replay].offset_next
        if self._seen[0] != self._last.seen:
            self._seen = (self._last.seen, Seen.decode(self._last.seen))
        known = group.inputs.keys() & inputs.keys()
        offsets = {TopicPartition(name, partition): inputs[name].offset_next for name in known}
        parked = {
            input_print(name, at, partition): at.offset_next
            for name, at in inputs.items()
            if name not in group.inputs and name != group.replay
        }
        return position.merge(Position(offsets)), self._seen[1].merge(Seen(parked))

    # --- pace

    def _check_pace(self, chunk: Chunk) -> None:
        """Refuse units that compaction may have reached. Raises: FellBehind."""
        # By our own clock alone a quiet changelog would look like one that is far ahead; by that of the
        # writer alone one that is set wrong would be far away for ever.
        now_ms = self._now_ms()
        if len(chunk) and min(now_ms - self._at_end_ms, now_ms - chunk.timestamps_ms[0]) > BEHIND_MS_MAX:
            raise FellBehind(f"the units from offset {chunk.offsets[0]} on were written too long ago")

    def _note_pace(self, chunk: Chunk) -> None:
        if self.offset_next >= self._goal[0]:
            self._at_end_ms = self._goal[1]
            self._goal = (chunk.high_watermark, self._now_ms())
        if self.offset_next >= chunk.high_watermark:
            self._at_end_ms = self._now_ms()

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)
