"""What an event says its sender had seen, and what becomes of it where that has not been seen yet."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import msgspec
import pytest

import headrace
from headrace import errors
from headrace.events.envelope import Envelope, encode_envelope, fresh_event_id
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import COMPONENTS_MAX, NOTHING_SEEN, Print, Seen, partition_print, topic_print
from headrace.flow.deadletter import Letter
from headrace.tables.view import PartitionView
from headrace.testing import Crash, Poison, harness
from headrace.testing.harness import Harness


class Said(headrace.Event, frozen=True):
    """Somebody said something."""

    text: str


@dataclass
class Court:
    """A service that hears questions and answers, in one group; what it hears it notes in order."""

    app: headrace.App
    questions: headrace.Topic[int, Said]
    answers: headrace.Topic[int, Said]
    notes: headrace.Topic[int, Said]
    heard: headrace.Table[int, tuple[str, ...]]
    order: list[str] = field(default_factory=list)


def open_court(name: str = "court", **options: object) -> Court:
    app = headrace.App(name)

    def topic(called: str) -> headrace.Topic[int, Said]:
        return app.topic(called, key_type=int, value_type=Said, partitions=1)

    court = Court(
        app,
        topic("questions"),
        topic("answers"),
        topic("notes"),
        app.Table("heard", key_type=int, value_type=tuple[str, ...], default=tuple),
    )

    async def hear(events: headrace.Stream[Said]) -> None:
        async for event in events:
            court.order.append(event.text)
            court.heard[1] = (*court.heard[1], event.text)
            await court.notes.send(value=event)

    app.agent(court.questions, name="questions", **options)(hear)  # type: ignore[arg-type]
    app.agent(court.answers, name="answers", **options)(hear)  # type: ignore[arg-type]
    return court


def catalog(h: Harness) -> Catalog:
    return Catalog("simulated", {name: topic.info.topic_id for name, topic in h.log.topics.items()})


def print_of(h: Harness, topic: str, partition: int = 0) -> Print:
    return catalog(h).print_of(TopicPartition(topic, partition))


def stamped(h: Harness, topic: str, text: str, stamp: bytes) -> Poison:
    """An event whose sender says what it has seen."""
    header = encode_envelope(Envelope(fresh_event_id(), 0, stamp=stamp))
    return Poison(msgspec.json.encode({"type": "Said", "text": text}), topic=topic, key=b"1", headers=header)


def after(h: Harness, topic: str, offset_next: int) -> bytes:
    return Seen({print_of(h, topic): offset_next}).encode()


def stamps(h: Harness, topic: headrace.Topic[int, Said]) -> list[Seen]:
    envelopes = [delivery.envelope for delivery in h.deliveries(topic)]
    return [Seen.decode(envelope.stamp) for envelope in envelopes if envelope is not None]


def letters(h: Harness) -> list[Letter]:
    records = h.log.records[TopicPartition("court.dead-letters", 0)]
    found = [Letter.parse(record.key, record.value, record.headers) for record in records]
    return [letter for letter in found if letter is not None]


def open_harness(court: Court) -> AbstractAsyncContextManager[Harness]:
    """A court that fetches one event at a time, so that its inputs are read one ahead of the other."""
    return harness(court.app, settings=headrace.Settings(unit_records_max=1), key=lambda _: 1)


async def test_an_output_says_how_far_its_sender_was_in_its_inputs() -> None:
    court = open_court()
    async with harness(court.app) as h:
        for text in ("who", "what"):
            await h.send(court.questions, Said(text), key=1)
        await h.send(court.answers, Said("me"), key=1)
        seen = [catalog(h).position(stamp) for stamp in stamps(h, court.notes)]
    questions, answers = TopicPartition("questions", 0), TopicPartition("answers", 0)
    assert seen[0] == Position({questions: 1, answers: 0})
    assert seen[1][questions] > 1
    assert seen[2].covers(seen[1])
    assert seen[2][answers] == 1


async def test_the_stamp_of_a_task_with_one_input_has_at_most_24_bytes() -> None:
    app = headrace.App("echo")
    calls: headrace.Topic[int, Said] = app.topic("calls", key_type=int, value_type=Said, partitions=1)
    echoes: headrace.Topic[int, Said] = app.topic("echoes", key_type=int, value_type=Said, partitions=1)

    @app.agent(calls)
    async def echo(events: headrace.Stream[Said]) -> None:
        async for event in events:
            await echoes.send(value=event)

    async with harness(app) as h:
        await h.send(calls, Said("hello"), key=1)
        (delivery,) = h.deliveries(echoes)
    assert delivery.envelope is not None
    assert 0 < len(delivery.envelope.stamp) <= 24


async def test_an_event_from_who_has_seen_nothing_carries_no_stamp() -> None:
    court = open_court()
    async with harness(court.app) as h:
        await h.send(court.questions, Said("who"), key=1)
        assert stamps(h, court.questions) == [NOTHING_SEEN]


@pytest.mark.parametrize("others", range(3))
async def test_an_event_waits_for_what_its_sender_had_seen_and_no_longer(others: int) -> None:
    court = open_court()
    async with open_harness(court) as h:
        # In one transaction: whichever input is read first, the answer is there before the last question.
        questions = [plain("questions", f"question {number}") for number in range(others + 2)]
        answer = stamped(h, "answers", "answer", after(h, "questions", others + 1))
        await h.run([answer, *questions])
        assert h.table("heard")[1] == tuple(court.order)
        assert court.order.index("answer") >= others + 1
        assert view(h).held == {}
        await h.check()


async def test_what_follows_in_the_same_input_waits_too_and_the_other_inputs_go_on() -> None:
    court = open_court()
    async with open_harness(court) as h:
        first = [plain("questions", f"q{number}") for number in range(3)]
        await h.run([stamped(h, "answers", "a0", after(h, "questions", 3)), plain("answers", "a1"), *first])
    assert court.order == ["q0", "q1", "q2", "a0", "a1"]


async def test_what_a_sender_had_seen_travels_through_services_that_never_name_it() -> None:
    court = open_court()
    async with harness(court.app) as h:
        far = partition_print(topic_print("far.events", "some id"), 7)
        await h.run([stamped(h, "questions", "who", Seen({far: 41}).encode()), Crash()])
        await h.send(court.answers, Said("me"), key=1)
        assert [stamp.get(far) for stamp in stamps(h, court.notes)] == [41, 41]
        assert view(h).seen == Seen({far: 41})


async def test_what_was_seen_outlives_the_loss_of_the_store() -> None:
    court = open_court()
    async with harness(court.app) as h:
        far = partition_print(topic_print("far.events", "some id"), 7)
        await h.run([stamped(h, "questions", "who", Seen({far: 41}).encode()), Crash(keeps_store=False)])
        assert view(h).seen == Seen({far: 41})
        await h.send(court.questions, Said("what"), key=1)
        assert stamps(h, court.notes)[-1][far] == 41


async def test_readers_are_told_of_what_was_seen_with_the_unit_that_saw_it() -> None:
    court = open_court()
    async with open_harness(court) as h:
        far = partition_print(topic_print("far.events", "some id"), 0)
        told = [stamped(h, "questions", f"q{n}", Seen({far: 10 + n}).encode()) for n in range(3)]
        positions: list[tuple[int, int]] = []
        for each in told:
            await h.run([each])
            shown = view(h)
            positions.append((shown.position[TopicPartition("questions", 0)], shown.seen[far]))
    assert [seen for _, seen in positions] == [10, 11, 12]


async def test_an_untrue_stamp_is_refused_by_name_with_the_input_it_names() -> None:
    court = open_court()
    async with harness(court.app) as h:
        await h.run([stamped(h, "answers", "liar", after(h, "questions", 10)), plain("answers", "honest")])
        (letter,) = letters(h)
        assert (letter.error, letter.topic, letter.offset) == ("UntrueStamp", "answers", 0)
        assert "questions partition 0 up to before offset 10" in letter.reason
        assert "ends at offset 0" in letter.reason
        assert view(h).held == {}
    assert court.order == ["honest"]


async def test_a_stamp_of_a_recreated_input_can_never_be_covered_and_is_refused() -> None:
    court = open_court()
    async with harness(court.app) as h:
        stamp = Seen({partition_print(topic_print("questions", "an id of the past"), 0): 1}).encode()
        await h.run([stamped(h, "answers", "late", stamp)])
        (letter,) = letters(h)
        assert letter.error == "UncoverableStamp"
        assert "questions partition 0" in letter.reason
    assert court.order == []


@pytest.mark.parametrize(
    "stamp",
    [b"\x30", b"\x10short", b"\x10" + b"\xff" * 22, b"\x10" + bytes(22 * (COMPONENTS_MAX + 1))],
    ids=["version", "cut short", "offset", "too many"],
)
async def test_a_stamp_that_cannot_be_read_is_refused_by_name(stamp: bytes) -> None:
    court = open_court()
    async with harness(court.app) as h:
        await h.run([stamped(h, "answers", "garbled", stamp)])
        (letter,) = letters(h)
    assert letter.error == "MalformedStamp"
    assert court.order == []


async def test_an_untrue_stamp_stops_the_partition_where_the_agent_wants_that() -> None:
    court = open_court(on_error=headrace.Stop())
    async with harness(court.app) as h:
        await h.run([stamped(h, "answers", "liar", after(h, "questions", 10))])
        assert isinstance(view(h).stopped_by, errors.UntrueStamp)
        assert court.order == []


async def test_a_cut_stamp_says_so_and_so_does_everything_after_it() -> None:
    court = open_court()
    async with harness(court.app) as h:
        far = [partition_print(topic_print("far.events", "some id"), number) for number in range(200)]
        stamp = Seen(dict.fromkeys(far, 5)).encode()
        assert Seen.decode(stamp).is_cut
        await h.run([stamped(h, "questions", "much", stamp)])
        (seen,) = stamps(h, court.notes)
        assert seen.is_cut
        assert len(seen) == COMPONENTS_MAX
        assert view(h).seen.is_cut


async def test_an_event_from_a_producer_that_sends_no_stamp_waits_for_nothing() -> None:
    court = open_court()
    async with harness(court.app) as h:
        await h.run([plain("answers", "stranger")])
    assert court.order == ["stranger"]


def plain(topic: str, text: str) -> Poison:
    """An event of a producer that knows nothing of stamps."""
    return Poison(msgspec.json.encode({"type": "Said", "text": text}), topic=topic, key=b"1")


def view(h: Harness) -> PartitionView:
    runtime = h.app.current
    assert runtime is not None
    (found,) = runtime.views()
    return found
