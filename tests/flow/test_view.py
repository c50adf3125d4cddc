"""A partition's readers are woken by what they wait for."""

import asyncio
from collections.abc import Callable

from headrace import Position, TopicPartition
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import PartitionView, ViewState

PLACE = TopicPartition("buys", 0)


async def test_every_change_of_a_partition_wakes_who_waits_for_it_once() -> None:
    view = PartitionView("main", 0)
    store = MemoryEngine().open("main", 0)
    changes: list[Callable[[], None]] = [
        lambda: view.serve(store, Position()),
        lambda: view.publish({b"t\0a": b"1"}, Position({PLACE: 1})),
        lambda: view.advance(Position({PLACE: 2})),
        lambda: view.close(ViewState.RESTORING),
    ]
    for change in changes:
        waiting = asyncio.create_task(view.changed.wait(), name="reader")
        await asyncio.sleep(0)
        assert not waiting.done()
        change()
        assert await waiting
        assert not view.changed.is_set()


async def test_a_change_between_looking_and_waiting_is_not_missed() -> None:
    view = PartitionView("main", 0)
    view.serve(MemoryEngine().open("main", 0), Position())
    seen = view.changed
    view.advance(Position({PLACE: 1}))
    assert await seen.wait()
    assert view.position[PLACE] == 1
