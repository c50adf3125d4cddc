"""What a global table tells of itself while its partitions come and go."""

import asyncio

from headrace import Position, TopicPartition
from headrace.events.seen import Seen
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.view import ViewState


def products() -> GlobalView:
    return GlobalView("products", ["product.events"], 2)


def at(partition: int, offset: int) -> Position:
    return Position({TopicPartition("product.events", partition): offset})


async def test_before_anything_is_served_every_partition_of_the_inputs_stands_at_the_beginning() -> None:
    assert products().position == at(0, 0).merge(at(1, 0))
    assert len(products().position) == 2


async def test_position_and_seen_are_those_of_all_partitions_together() -> None:
    view = products()
    first, second = Seen({b"f" * 14: 3, b"g" * 14: 9}), Seen({b"f" * 14: 5})
    view.partitions[0].serve(MemoryStore(), at(0, 7), first)
    view.moved()
    was_served = view.is_served
    assert view.position == Position({**at(0, 7), **at(1, 0)})
    view.partitions[1].serve(MemoryStore(), at(1, 4), second)
    view.moved()
    assert (was_served, view.is_served) == (False, True)
    assert view.position == at(0, 7).merge(at(1, 4))
    assert view.seen == Seen({b"f" * 14: 5, b"g" * 14: 9})


async def test_what_cannot_be_read_at_the_moment_covers_nothing() -> None:
    view = products()
    for number, partition in enumerate(view.partitions):
        partition.serve(MemoryStore(), at(number, 7), Seen({b"f" * 14: 3}))
    view.moved()
    view.partitions[1].close(ViewState.RESTORING)
    view.moved()
    assert view.position == Position({**at(0, 7), **at(1, 0)})


async def test_whoever_waits_is_woken_by_the_change_and_finds_a_higher_version() -> None:
    view = products()
    before, waiting = view.version, asyncio.create_task(view.until_served(), name="reader")
    await asyncio.sleep(0)
    for number, partition in enumerate(view.partitions):
        partition.serve(MemoryStore(), at(number, 1))
        view.moved()
    await waiting
    assert view.version == before + 2
