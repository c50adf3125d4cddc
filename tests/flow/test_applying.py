"""How committed units reach the store: gathered while a task is busy, at once when it is not."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from headrace.events.position import Position
from headrace.flow.applying import Applying, CommittedUnit
from headrace.flow.room import Room
from headrace.flow.takeover import Held
from headrace.tables.changelog import PositionRecord
from headrace.tables.memory import MemoryEngine
from headrace.tables.store import Row, Store
from headrace.tables.view import PartitionView
from headrace.testing.virtual_clock import VirtualClock


class Noted:
    """A store that keeps what is written to it, batch by batch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.batches: list[tuple[int, bytes | None]] = []
        """Rows of each, and the mark that it carried."""

    def write(self, rows: list[Row], mark: bytes | None = None) -> None:
        self.batches.append((len(rows), mark))
        self._store.write(rows, mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Shelf:
    """One task's store and view, to which units are committed by hand."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.room = Room()
        self.store = Noted(MemoryEngine().open("main", 0))
        self.view = PartitionView("main", 0)
        self.view.serve(cast(Store, self.store), Position())
        held = Held(cast(Any, None), cast(Store, self.store), "id", 0, {}, None, True, self.clock)
        self.applying = Applying(held, self.view, self.clock, self.room)
        self._unit = 0

    def commit(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Commit a unit, and show it."""
        self._unit += 1
        record = PositionRecord(self._unit, {}, None, b"", ())
        size = sum(len(key) + len(row or b"") for key, row in rows.items())
        unit = CommittedUnit(record, dict(rows), size, [], 10 * self._unit)
        self.view.publish(unit.rows, Position())
        self.applying.add(unit)


@asynccontextmanager
async def shelf() -> AsyncIterator[Shelf]:
    opened = Shelf()
    running = asyncio.create_task(opened.applying.run(), name="applying")
    yield opened
    running.cancel()
    await asyncio.wait({running})


def large(value: bytes) -> dict[bytes, bytes | None]:
    return {b"key-%04d" % at: value for at in range(1_000)}


async def quiet() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_small_unit_is_in_the_store_at_once() -> None:
    async with shelf() as task:
        task.commit({b"a": b"1"})
        await quiet()
        assert task.store.get(b"a") == b"1"
        assert [rows for rows, _ in task.store.batches] == [1]


async def test_large_units_wait_for_each_other_and_a_row_of_several_is_written_once() -> None:
    async with shelf() as task:
        for value in (b"1", b"2", b"3"):
            task.commit(large(value))
            await quiet()
        assert task.store.batches == []
        assert task.view.get(b"key-0007") == b"3"
        task.commit({b"key-0007": None})
        await quiet()
        assert sum(rows for rows, _ in task.store.batches) == 1_000
        assert (task.store.get(b"key-0007"), task.store.get(b"key-0008")) == (None, b"3")
        assert task.view.get(b"key-0007") is None


async def test_only_the_last_batch_says_that_the_store_has_the_units() -> None:
    async with shelf() as task:
        task.commit(large(b"1"))
        task.commit(large(b"2"))
        await task.applying.until_applied()
        *first, (_, last) = task.store.batches
        assert [mark for _, mark in first] == [None] * len(first)
        assert last is not None
        assert b'"unit":2' in last


async def test_a_large_unit_that_no_other_follows_waits_half_a_second() -> None:
    async with shelf() as task:
        task.commit(large(b"1"))
        await quiet()
        assert task.store.batches == []
        task.clock.move_to(0.5)
        await quiet()
        assert task.store.get(b"key-0007") == b"1"


async def test_eight_large_units_wait_for_no_other_and_take_no_ninth() -> None:
    task = Shelf()
    for number in range(8):
        task.commit(large(b"%d" % number))
    room = asyncio.create_task(task.applying.until_room(), name="room")
    await quiet()
    assert not room.done()
    running = asyncio.create_task(task.applying.run(), name="applying")
    await room
    await quiet()
    assert task.store.get(b"key-0007") == b"7"
    running.cancel()
    await asyncio.wait({running})


async def test_what_waits_for_other_tasks_counts_too_and_is_forgotten_with_its_task() -> None:
    async with shelf() as task:
        task.room.grow(64 * 1024 * 1024)
        task.commit(large(b"1"))
        await quiet()
        assert task.store.get(b"key-0007") == b"1"
        task.room.grow(-64 * 1024 * 1024)
        task.commit(large(b"2"))
        await quiet()
        assert task.store.get(b"key-0007") == b"1"
        task.room.grow(64 * 1024 * 1024 - 1)
        assert task.room.is_full
    assert not task.room.is_full
