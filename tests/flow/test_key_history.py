"""A key's history: its own events and corrections, in an order that stamps and time bear out."""

from collections.abc import Mapping
from typing import Any

import headrace
from headrace import TopicPartition
from headrace.events.envelope import Envelope, Headers, encode_envelope, id_text
from headrace.events.position import Catalog, Position
from headrace.events.seen import name_print
from headrace.flow.fact import Naming
from headrace.flow.keyhistory import KeyHistory, homes, key_history, naming_of, telling_topics
from headrace.log.port import Log, TopicSpec
from headrace.log.simulated.log import SimulatedLog
from tests.service import append


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    cents: int


class PriceCorrected(headrace.Correction[Bought], frozen=True, kw_only=True):
    """It had another price."""

    cents: int


class Returned(headrace.Event, frozen=True):
    """Somebody brought something back."""

    cents: int


app = headrace.App("history-of-keys")
buys = app.topic("buys", key_type=int, value_type=Bought | PriceCorrected, partitions=2)
returns = app.topic("returns", key_type=int, value_type=Returned, partitions=2)
refusals = app.topic("refusals", key_type=int, value_type=PriceCorrected, partitions=2)
letters = app.topic("letters", key_type=int, value_type=Bought, partitions=2)
named = app.topic("named", key_type=bytes, value_type=Bought, partitions=2)
ADA = 7
HOME = buys.partitioner.place(b"7", 2)
ELSEWHERE = next(key for key in range(100) if buys.partitioner.place(b"%d" % key, 2) != HOME)


def event_id(number: int) -> bytes:
    return bytes([number]) * 16


class Story:
    """A log that is written event by event."""

    def __init__(self, log: Log, naming: Naming) -> None:
        self.log, self.naming = log, naming
        self.written = 0

    async def write(
        self,
        topic: str,
        value: headrace.Event | bytes | None,
        *,
        key: int = ADA,
        at_ms: int | None = None,
        saw: Mapping[str, int] | None = None,
        stamp: bytes | None = None,
    ) -> str:
        """Append an event; its id."""
        self.written += 1
        position = Position({TopicPartition(name, HOME): offset for name, offset in (saw or {}).items()})
        stamp = stamp if stamp is not None else self.naming.catalog.seen(position).encode()
        at_ms = self.written if at_ms is None else at_ms
        headers: Headers = encode_envelope(Envelope(event_id(self.written), at_ms, stamp=stamp))
        raw = (
            app.declarations.topics[topic].values.encode(value)
            if isinstance(value, headrace.Event)
            else value
        )
        partition = buys.partitioner.place(b"%d" % key, 2)
        await append(
            self.log, topic, [(b"%d" % key, raw)], partition=partition, headers=headers, timestamp_ms=at_ms
        )
        return id_text(event_id(self.written))

    async def told(self, *topics: headrace.Topic[Any, Any], limit: int = 100) -> KeyHistory:
        infos = await self.log.describe([topic.name for topic in topics])
        found = homes(str(ADA), topics, infos)
        return await key_history(self.log, found, self.naming.catalog, limit=limit)


async def a_story() -> Story:
    log = SimulatedLog()
    await log.open()
    await log.provision([TopicSpec(name=name, partitions=2) for name in app.declarations.topics])
    return Story(log, await naming_of(log))


async def test_it_holds_the_events_of_the_key_and_reads_no_other_partition() -> None:
    story = await a_story()
    first = await story.write("buys", Bought(250))
    await story.write("buys", Bought(1), key=ELSEWHERE)
    second = await story.write("returns", Returned(50))
    told = await story.told(buys, returns)
    assert [fact.event_id for fact in told.facts] == [first, second]
    assert [fact.kind for fact in told.facts] == ["Bought", "Returned"]
    assert told.places == [TopicPartition("buys", HOME), TopicPartition("returns", HOME)]
    assert (told.left_out, told.is_whole, told.begins_at) == (0, True, {})


async def test_a_corrected_event_is_marked_and_a_correction_can_be_corrected_itself() -> None:
    story = await a_story()
    wrong = await story.write("buys", Bought(250))
    right = await story.write("buys", Bought(100))
    first = await story.write("buys", PriceCorrected(corrects=wrong, reason="the shelf said so", cents=200))
    second = await story.write("refusals", PriceCorrected(corrects=wrong, reason="a coupon", cents=180))
    third = await story.write("buys", PriceCorrected(corrects=first, reason="no, it did not", cents=250))
    told = {fact.event_id: fact for fact in (await story.told(buys, refusals)).facts}
    assert [(each.event_id, each.reason) for each in told[wrong].corrected_by] == [
        (first, "the shelf said so"),
        (second, "a coupon"),
    ]
    assert [each.event_id for each in told[first].corrected_by] == [third]
    assert [each.event_id for each in told[wrong].corrected_by[0].corrected_by] == [third]
    assert (told[right].corrected_by, told[third].corrects) == ((), first)


async def test_corrections_that_name_each_other_come_to_an_end() -> None:
    story = await a_story()
    ids = [id_text(event_id(number)) for number in (1, 2, 3)]
    for own, other in zip(ids, (*ids[1:], ids[0]), strict=True):
        assert own == await story.write("buys", PriceCorrected(corrects=other, reason="no", cents=1))
    await story.write("buys", PriceCorrected(corrects=id_text(event_id(4)), reason="me", cents=1))
    told = (await story.told(buys)).facts
    assert [[by.event_id for by in fact.corrected_by] for fact in told] == [[ids[2]], [ids[0]], [ids[1]], []]


async def test_nothing_comes_before_what_its_stamp_names_whatever_the_clocks_said() -> None:
    story = await a_story()
    back = await story.write("returns", Returned(50), at_ms=1, saw={"buys": 1})
    bought = await story.write("buys", Bought(250), at_ms=900)
    later = await story.write("buys", Bought(1), at_ms=2)
    told = await story.told(buys, returns)
    assert [fact.event_id for fact in told.facts] == [bought, back, later]
    assert story.naming.seen(told.facts[1].seen) == {f"buys/{HOME}": 1}


async def test_untrue_and_broken_stamps_do_not_keep_it_from_being_told() -> None:
    story = await a_story()
    await story.write("returns", Returned(1), saw={"buys": 10_000})
    await story.write("buys", Bought(2), saw={"returns": 10_000})
    await story.write("buys", Bought(3), stamp=b"\xff\x00")
    told = await story.told(buys, returns)
    assert [fact.kind for fact in told.facts] == ["Returned", "Bought", "Bought"]
    assert "stamp version" in told.facts[2].problem


async def test_what_cannot_be_read_is_told_as_such() -> None:
    story = await a_story()
    await story.write("buys", b"\xff")
    await story.write("buys", None)
    await story.write("buys", b'{"type": "Bought", "cents": "many"}')
    told = (await story.told(buys)).facts
    assert [fact.kind for fact in told] == ["", "tombstone", "Bought"]
    assert [bool(fact.problem) for fact in told] == [True, False, True]


async def test_the_newest_ones_are_kept_and_the_others_counted_and_their_corrections_still_known() -> None:
    story = await a_story()
    ids = [await story.write("buys", Bought(cents)) for cents in range(20)]
    correction = PriceCorrected(corrects=ids[18], reason="r", cents=1)
    by = await story.write("buys", correction)
    told = await story.told(buys, limit=3)
    assert ([fact.event_id for fact in told.facts], told.left_out) == ([*ids[18:], by], 18)
    assert [each.event_id for each in told.facts[0].corrected_by] == [by]


def test_names_of_stamps_tell_topics_that_were_recreated_or_that_nobody_knows() -> None:
    before = Catalog("c", {"buys": "first", "far": "away", "here": "same"})
    now = Naming(Catalog("c", {"buys": "second", "here": "same"}))
    places = [TopicPartition("buys", 0), TopicPartition("far", 1), TopicPartition("here", 2)]
    told = now.seen(before.seen(Position(dict.fromkeys(places, 5))))
    unknown = name_print("far").hex()
    assert told == {"buys before it was recreated/0": 5, "here/2": 5, f"unknown topic {unknown}/1": 5}


def test_it_is_told_from_the_inputs_and_from_what_carries_corrections() -> None:
    declared = list(app.declarations.topics.values())
    assert telling_topics([returns], declared) == [buys, returns, refusals]
    infos: Any = {}
    assert homes("7", declared, infos) == []
