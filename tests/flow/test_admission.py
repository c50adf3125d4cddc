"""The waiting room of a task by itself: what may be handed out, in which order; what is shown of the rest."""

from collections.abc import Sequence

from headrace.clock import SYSTEM_CLOCK
from headrace.events.envelope import Envelope, encode_envelope, fresh_event_id
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.admission import Admission
from headrace.flow.causality import TaskSeen
from headrace.flow.isolation import Isolation
from headrace.log.port import Append, Chunk, TopicSpec, catalog
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.view import PartitionView

A, B, C = (TopicPartition(name, 0) for name in "abc")
ROOM = 3


class Room:
    """An admission over a log that ends at offset 10 in each of its three topics."""

    def __init__(self, catalog_: Catalog, log: SimulatedLog, followed: Sequence[GlobalView] = ()) -> None:
        self.catalog = catalog_
        self.log = log
        self.view = PartitionView("main", 0)
        self.isolation = Isolation()
        prints = {place.topic: catalog_.print_of(place) for place in (A, B, C)}
        self.seen = TaskSeen(prints, NOTHING_SEEN, parked={}, catalog=catalog_)
        self.admission = Admission(
            prints,
            dict.fromkeys("abc", 0),
            self.seen,
            view=self.view,
            isolation=self.isolation,
            log=log,
            catalog=catalog_,
            clock=SYSTEM_CLOCK,
            followed=followed,
            partitions=dict.fromkeys("abc", 1),
            records_max=ROOM,
        )

    @classmethod
    async def open(cls, *followed: GlobalView) -> "Room":
        log = SimulatedLog(SimulatedCluster())
        infos = await log.provision([TopicSpec(name=name, partitions=1) for name in "abc"])
        writer = await log.writer("test")
        for place in (A, B, C):
            await writer.commit([Append(*place, [(b"k", b"v", (), 0)] * 9)])
            assert (await log.offsets([place]))[place].end == 10
        return cls(catalog(log, infos), log, followed)

    def chunk(self, place: TopicPartition, start: int, *needs: tuple[TopicPartition, int] | None) -> Chunk:
        """Events of one input, each with what its sender had seen."""
        headers = [
            () if need is None else encode_envelope(Envelope(fresh_event_id(), 0, stamp=self.stamp(need)))
            for need in needs
        ]
        end, count = start + len(needs), len(needs)
        return Chunk(
            *place, list(range(start, end)), [0] * count, [b"k"] * count, [b"v"] * count, headers, end, end
        )

    def stamp(self, need: tuple[TopicPartition, int]) -> bytes:
        return Seen({self.catalog.print_of(need[0]): need[1]}).encode()

    async def take(self, *chunks: Chunk) -> list[tuple[str, list[int]]]:
        return [(chunk.topic, list(chunk.offsets)) for chunk in await self.admission.take(chunks)]


async def test_chunks_without_stamps_pass_whole_and_in_order() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(B, 0, None, None), room.chunk(A, 0, None)) == [
        ("a", [0]),
        ("b", [0, 1]),
    ]


async def test_a_held_event_is_shown_with_its_place_and_what_it_waits_for() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(B, 0, None, (A, 2))) == [("b", [0])]
    (held,) = room.view.held.items()
    assert (held[0], held[1].offset, held[1].waits_for) == (B, 1, {A: 2})

    assert await room.take(room.chunk(A, 0, None)) == [("a", [0])]
    assert room.view.held[B].since == held[1].since
    assert await room.take(room.chunk(A, 1, None)) == [("a", [1]), ("b", [1])]
    assert room.view.held == {}


async def test_progress_over_no_events_lets_a_held_event_go_on() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(B, 0, (A, 2))) == []
    marker = Chunk("a", 0, [], [], [], [], [], 2, 2)
    assert await room.take(marker) == [("a", []), ("b", [0])]


async def test_inputs_that_wait_for_each_other_in_turn_are_handed_out_in_turns() -> None:
    room = await Room.open()
    a = room.chunk(A, 0, None, (C, 1), None)
    b = room.chunk(B, 0, (A, 1), (C, 2))
    c = room.chunk(C, 0, (B, 1), (A, 3))
    assert await room.take(c, b, a) == [
        ("a", [0]), ("b", [0]), ("c", [0]), ("a", [1, 2]), ("c", [1]), ("b", [1]),
    ]  # fmt: skip


async def test_an_input_is_full_once_so_many_events_wait_and_not_before() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(B, 0, (A, 9), None)) == []
    assert room.admission.full() == frozenset()
    assert await room.take(room.chunk(B, 2, None, None)) == []
    assert room.admission.full() == {B}
    await room.take(room.chunk(A, 0, *[None] * 9))
    assert room.admission.full() == frozenset()


async def test_an_untrue_stamp_is_refused_alone_and_what_follows_goes_on() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(B, 0, None, (A, 11), None)) == [("b", [0]), ("b", [1, 2])]
    (place,) = room.isolation.refused
    assert place == ("b", 1)
    assert type(room.isolation.refused[place]).__name__ == "UntrueStamp"


async def test_what_is_waited_for_may_be_lost_and_is_then_refused() -> None:
    room = await Room.open()
    room.view.input_ends[A] = 20
    assert await room.take(room.chunk(B, 0, (A, 15))) == []
    # The input lost its end since it was read.
    room.admission.recheck()
    assert await room.take() == [("b", [0])]
    assert type(room.isolation.refused["b", 0]).__name__ == "UntrueStamp"


async def test_a_true_stamp_is_not_held_against_an_end_that_was_asked_for_long_ago() -> None:
    room = await Room.open()
    assert await room.take(room.chunk(C, 0, (A, 10))) == []
    writer = await room.log.writer("more")
    await writer.commit([Append(*A, [(b"k", b"v", (), 0)] * 9)])
    room.view.input_ends[A] = 20
    assert await room.take(room.chunk(A, 0, *[None] * 10)) == [("a", [*range(10)]), ("c", [0])]
    # Where B's stamp makes it ask the log again, it asks for C alone.
    assert await room.take(room.chunk(C, 1, (A, 15)), room.chunk(B, 0, (C, 9))) == []
    assert room.isolation.refused == {}


def move(followed: GlobalView, offset: int) -> None:
    """Let a global table that is folded from A be so far."""
    followed.partitions[0].serve(MemoryStore(), Position({A: offset}))
    followed.moved()


async def test_an_event_waits_for_its_input_and_for_the_global_table_that_is_folded_from_the_same_topic() -> (
    None
):
    stock = GlobalView("stock", "a", 1)
    room = await Room.open(stock)
    assert await room.take(room.chunk(B, 0, (A, 2)), room.chunk(A, 0, None, None)) == [("a", [0, 1])]
    move(stock, 1)
    assert await room.take() == []
    move(stock, 2)
    assert await room.take() == [("b", [0])]
    assert await room.take(room.chunk(B, 1, (A, 3))) == []
    move(stock, 3)
    assert await room.take() == []
    assert await room.take(room.chunk(A, 2, None)) == [("a", [2]), ("b", [1])]


async def test_an_event_waits_for_the_slowest_of_the_global_tables_that_are_folded_from_a_topic() -> None:
    prices, stock = GlobalView("prices", "a", 1), GlobalView("stock", "a", 1)
    room = await Room.open(prices, stock)
    await room.take(room.chunk(A, 0, None, None))
    move(prices, 2)
    assert await room.take(room.chunk(B, 0, (A, 2))) == []
    move(prices, 3)
    assert await room.take() == []
    move(stock, 2)
    assert await room.take() == [("b", [0])]
