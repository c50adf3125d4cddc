"""The log is asked once for what many want to know, and not at all for what is known."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from headrace.errors import Unavailable
from headrace.events.position import Catalog, TopicPartition
from headrace.log.inquiry import Inquiry
from headrace.log.port import Append, OffsetRange, TopicInfo, TopicSpec
from headrace.log.simulated.log import SimulatedLog
from headrace.testing.virtual_clock import VirtualClock

BUYS = [TopicPartition("buys", partition) for partition in range(4)]


class Asked(SimulatedLog):
    """A log that notes what it is asked, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Sequence[TopicPartition]] = []
        self.was_asked = asyncio.Event()
        self.listings = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_down = False

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        self.questions.append(places)
        self.was_asked.set()
        await self.may_answer.wait()
        if self.is_down:
            raise Unavailable("nobody there")
        return await super().offsets(places)

    async def topics(self) -> Sequence[TopicInfo]:
        self.listings += 1
        return await super().topics()


@pytest.fixture
async def log() -> Asked:
    log = Asked()
    await log.provision([TopicSpec(name="buys", partitions=4)])
    return log


async def append(log: Asked, partition: int) -> None:
    writer = await log.writer("till")
    await writer.commit([Append("buys", partition, [(b"k", b"v", (), 0)])])


async def test_questions_of_one_moment_are_one_question(log: Asked) -> None:
    inquiry = Inquiry(log)
    answers = [inquiry.ranges([place]) for place in BUYS]
    for place, answer in zip(BUYS, answers, strict=True):
        assert (await answer)[place] == (0, 0, 0)
    assert log.questions == [BUYS]
    await inquiry.close()


async def test_what_is_asked_while_an_answer_is_under_way_is_asked_after_it(log: Asked) -> None:
    inquiry = Inquiry(log)
    log.may_answer.clear()
    early = inquiry.ranges(BUYS[:1])
    await log.was_asked.wait()
    late = [inquiry.ranges(BUYS[:1]) for _ in range(50)]
    await append(log, 0)
    log.may_answer.set()
    await early
    assert {(await answer)[BUYS[0]].end for answer in late} == {2}
    assert len(log.questions) == 2
    await inquiry.close()


async def test_ends_that_were_told_are_known_from_then_on(log: Asked) -> None:
    inquiry = Inquiry(log)
    await append(log, 2)
    assert not inquiry.has_reached(BUYS[2], 1)
    await inquiry.ranges([BUYS[2]])
    assert inquiry.has_reached(BUYS[2], 2)
    assert not inquiry.has_reached(BUYS[2], 3)
    await inquiry.close()


async def test_a_partition_that_is_not_there_is_left_out_and_spoils_no_other_answer(log: Asked) -> None:
    inquiry = Inquiry(log)
    found = await inquiry.ranges([*BUYS, TopicPartition("gone", 0), TopicPartition("buys", 9)])
    assert list(found) == BUYS
    await inquiry.close()


async def test_a_log_that_does_not_answer_fails_who_asked_and_not_who_asks_later(log: Asked) -> None:
    inquiry = Inquiry(log)
    log.is_down = True
    with pytest.raises(Unavailable):
        await inquiry.ranges(BUYS)
    log.is_down = False
    assert len(await inquiry.ranges(BUYS)) == 4
    await inquiry.close()


async def test_whoever_waits_for_an_answer_when_it_closes_is_told(log: Asked) -> None:
    inquiry = Inquiry(log)
    log.may_answer.clear()
    asked = inquiry.ranges(BUYS)
    await log.was_asked.wait()
    waiting = inquiry.ranges(BUYS)
    await inquiry.close()
    for answer in (asked, waiting):
        with pytest.raises(Unavailable):
            await answer


async def test_topics_are_listed_for_prints_that_are_not_known_and_not_again_and_again(log: Asked) -> None:
    clock = VirtualClock()
    inquiry = Inquiry(log, clock)
    infos = await log.describe(["buys"])
    print_ = Catalog(log.cluster_id, {"buys": infos["buys"].topic_id}).print_of(BUYS[3])
    assert inquiry.wants_listing([print_])
    await asyncio.gather(*(asyncio.shield(inquiry.listing()) for _ in range(20)))
    assert inquiry.catalog.place_of(print_) == BUYS[3]
    assert not inquiry.wants_listing([print_])
    assert not inquiry.wants_listing([b"unheard of14"]), "it was looked for just now"
    clock.move_to(6.0)
    assert inquiry.wants_listing([b"unheard of14"])
    assert log.listings == 1
    await inquiry.close()


async def test_the_ends_of_a_topic_that_was_recreated_are_forgotten(log: Asked) -> None:
    inquiry = Inquiry(log)
    inquiry.know((await log.describe(["buys"])).values())
    await append(log, 0)
    await inquiry.ranges(BUYS[:1])
    log.cluster.delete("buys")
    await log.provision([TopicSpec(name="buys", partitions=1)])
    await inquiry.listing()
    assert not inquiry.has_reached(BUYS[0], 1)
    assert (inquiry.exists(BUYS[0]), inquiry.exists(BUYS[1])) == (True, False)
    await inquiry.close()
