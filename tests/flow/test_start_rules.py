"""Where reading begins when a service changes, and how it reads what an older version of it wrote."""

import json
from typing import Any

import httpx
import msgspec
import pytest

import headrace
from headrace import TopicPartition, errors
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.memory import MemoryEngine
from tests.flow.letters import letters
from tests.service import append, running


class Note(headrace.Event, frozen=True):
    """Something was noted."""

    text: str


def service(*inputs: str, agents: dict[str, str] | None = None, start: str = "earliest") -> headrace.App:
    """An app whose agents (by name: their topic) count what they are handed, in a table of their own."""
    app = headrace.App("notes")
    topics = {
        name: app.topic(name, key_type=str, value_type=Note, partitions=1, start=start) for name in inputs
    }
    for name, topic in (agents or {f"of_{name}": name for name in inputs}).items():
        _count(app, name, topics[topic])
    return app


def _count(app: headrace.App, name: str, topic: headrace.Topic[str, Note]) -> None:
    counts = app.Table(name, key_type=str, default=int)

    @app.agent(topic, name=name)
    async def count(events: headrace.Stream[Note]) -> None:
        async for event in events:
            counts[event.text] += 1


async def note(log: SimulatedLog, topic: str, *texts: str) -> None:
    """Put notes into a topic."""
    await append(log, topic, [(b"k", json.dumps({"type": "Note", "text": text}).encode()) for text in texts])


async def test_a_new_input_of_an_old_group_is_read_from_its_beginning() -> None:
    log = SimulatedLog()
    async with running(service("a", "b", agents={"of_a": "a"}), log=log) as run:
        await note(log, "a", "x")
        await note(log, "b", "early")
        await run.until_applied()
    async with running(service("a", "b"), log=log) as run:
        await run.until_applied()
        assert run.table("of_a").rows() == {"x": 1}
        assert run.table("of_b").rows() == {"early": 1}


async def test_a_new_input_that_starts_at_the_latest_skips_what_was_there_for_good() -> None:
    log = SimulatedLog()
    async with running(service("a", "b", agents={"of_a": "a"}), log=log):
        await note(log, "b", "early")
    async with running(service("a", "b", start="latest"), log=log) as run:
        await note(log, "b", "late")
        await run.until_applied()
    async with running(service("a", "b"), log=log) as run:
        await run.until_applied()
        assert run.table("of_b").rows() == {"late": 1}


async def test_an_input_that_is_taken_away_and_given_back_goes_on_where_it_was() -> None:
    log = SimulatedLog()
    async with running(service("a", "b"), log=log) as run:
        await note(log, "b", "one")
        await run.until_applied()
    async with running(service("a", "b", agents={"of_a": "a"}), log=log) as run:
        await note(log, "a", "x")
        await note(log, "b", "two")
        await run.until_applied()
    async with running(service("a", "b"), log=log) as run:
        await run.until_applied()
        assert run.table("of_b").rows() == {"one": 1, "two": 1}
        assert run.position()[TopicPartition("b", 0)] == log.cluster.range(TopicPartition("b", 0)).end


async def test_a_new_agent_on_an_input_that_was_read_already_sees_new_events_only() -> None:
    log = SimulatedLog()
    async with running(service("a"), log=log) as run:
        await note(log, "a", "old")
        await run.until_applied()
    async with running(service("a", agents={"of_a": "a", "second": "a"}), log=log) as run:
        await note(log, "a", "new")
        await run.until_applied()
        assert run.table("of_a").rows() == {"old": 1, "new": 1}
        assert run.table("second").rows() == {"new": 1}


async def test_a_new_group_of_an_old_app_reads_everything() -> None:
    log = SimulatedLog()
    async with running(service("a"), log=log) as run:
        await note(log, "a", "old")
        await run.until_applied()
    app = service("a")
    every = app.Table("every", key_type=str, default=int, group="audit")

    @app.agent(app.declarations.topics["a"], group="audit")
    async def audit(events: headrace.Stream[Note]) -> None:
        async for event in events:
            every[event.text] += 1

    async with running(app, log=log) as run:
        await run.until_applied()
        assert run.table("every").rows() == {"old": 1}
        assert run.table("of_a").rows() == {"old": 1}


class Paid(headrace.Event, frozen=True):
    """Money was paid; the first version had whole euros."""

    cents: int


class Purse(msgspec.Struct, frozen=True):
    """What somebody has; the first version was a bare number of euros."""

    cents: int = 0


def in_cents(old: Any) -> Any:
    """A payment of the first version as one of the second."""
    return {"type": "Paid", "cents": old["euros"] * 100}


def purse_of(old: Any) -> Any:
    """A row of the first version as one of the second."""
    return {"cents": old * 100}


def bank(*, events_upcast: Any = None, rows_upcast: Any = None) -> headrace.App:
    """The second version of a bank."""
    app = headrace.App("bank")
    paid: headrace.Topic[str, Paid] = app.topic(
        "paid", key_type=str, value_type=Paid, partitions=1, upcast=events_upcast
    )
    purses: headrace.Table[str, Purse] = app.Table("purses", default=Purse, upcast=rows_upcast)

    @app.agent(paid)
    async def put(events: headrace.Stream[Paid]) -> None:
        async for delivery in events.events():
            purses[delivery.key] = Purse(purses[delivery.key].cents + delivery.value.cents)

    app.serve(purses, "/purses")
    return app


async def first_bank(log: SimulatedLog, engine: MemoryEngine) -> None:
    """What the first version left: a row and an unread event."""
    app = headrace.App("bank")
    paid: headrace.Topic[str, Any] = app.topic("paid", key_type=str, value_type=dict, partitions=1)
    purses = app.Table("purses", default=int)

    @app.agent(paid)
    async def put(events: headrace.Stream[Any]) -> None:
        async for event in events:
            purses["ann"] += event["euros"]
            purses["bob"] += 1

    async with running(app, log=log, engine=engine) as run:
        await append(log, "paid", [(b"ann", b'{"euros":3}')])
        await run.until_applied()
    await append(log, "paid", [(b"ann", b'{"euros":4}')])


async def test_events_and_rows_of_an_older_shape_are_upcast_for_agents_and_readers() -> None:
    log, engine = SimulatedLog(), MemoryEngine()
    await first_bank(log, engine)
    async with running(bank(events_upcast=in_cents, rows_upcast=purse_of), log=log, engine=engine) as run:
        await append(log, "paid", [(b"ann", b'{"type":"Paid","cents":5}')])
        await run.until_applied()
        assert run.table("purses").rows() == {"ann": Purse(705), "bob": Purse(100)}
        async with httpx.AsyncClient(base_url="http://{}:{}".format(*run.runtime.address)) as client:
            assert (await client.get("/purses/bob")).json() == {"cents": 100}
            rows = (await client.get("/purses")).json()["rows"]
            assert rows == [{"key": "ann", "value": {"cents": 705}}, {"key": "bob", "value": {"cents": 100}}]
    assert letters(log, "bank") == []


async def test_without_an_upcast_an_old_event_is_a_dead_letter_and_an_old_row_a_named_error() -> None:
    log, engine = SimulatedLog(), MemoryEngine()
    await first_bank(log, engine)
    async with running(bank(), log=log, engine=engine) as run:
        await append(log, "paid", [(b"ann", b'{"type":"Paid","cents":5}')])
        await run.until_applied()
    old_event, old_row = letters(log, "bank")
    assert (old_event.error, old_event.value) == ("DecodeError", b'{"euros":4}')
    assert (old_row.error, old_row.value) == ("RowMismatch", b'{"type":"Paid","cents":5}')


async def test_an_upcast_that_does_not_help_says_what_is_wrong_with_the_event() -> None:
    log = SimulatedLog()
    async with running(bank(events_upcast=in_cents), log=log) as run:
        await append(log, "paid", [(b"ann", b'{"pounds":4}')])
        await run.until_applied()
    (letter,) = letters(log, "bank")
    assert "upcast does not help: KeyError('euros')" in letter.reason


def test_bytes_cannot_be_upcast() -> None:
    with pytest.raises(errors.DeclarationError, match="no shape to upcast"):
        headrace.App("raw").topic("raw", upcast=in_cents)
