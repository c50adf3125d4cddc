"""Strategies give what the declared types allow, all of it and nothing else."""

import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace.errors import DeclarationError
from headrace.testing import Crash, Poison, Send, event_sequences, events
from tests.testing.till import Bought, open_till


class Colour(Enum):
    """Of a thing."""

    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct, frozen=True):
    """Of a thing."""

    weight: Annotated[float, msgspec.Meta(gt=0, le=10)]
    inner: "Part | None" = None


class Thing(headrace.Event, frozen=True):
    """Has a field of every type there is."""

    number: Annotated[int, msgspec.Meta(ge=10, lt=20)]
    even: Annotated[int, msgspec.Meta(multiple_of=2)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=3)]
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]
    raw: bytes
    is_new: bool
    colour: Colour
    size: Literal["s", "m"]
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    tags: frozenset[str]
    prices: Annotated[dict[str, Decimal], msgspec.Meta(max_length=2)]
    at: datetime
    day: date
    took: timedelta
    thing_id: UUID
    note: str | None = None


@given(events(Thing))
def test_every_value_reads_back_as_it_was_written(thing: Thing) -> None:
    raw = msgspec.json.encode(thing)
    assert msgspec.json.decode(raw, type=Thing) == thing
    assert 10 <= thing.number < 20
    assert thing.even % 2 == 0


@given(events(Thing, {"number": st.just(12), "weight": st.just(0.5)}))
def test_a_field_takes_the_strategy_that_is_given_for_it(thing: Thing) -> None:
    assert thing.number == 12
    assert {part.weight for part in thing.parts} <= {0.5}


def test_a_type_without_a_strategy_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match="there is no strategy for AnyType"):
        events(Any).example()


TILL = open_till()


@given(event_sequences(TILL.buys, key="who", poison=True))
def test_a_sequence_holds_events_with_few_keys_crashes_and_poison(sequence: list[Any]) -> None:
    sends = [item for item in sequence if isinstance(item, Send)]
    assert all(isinstance(each.event, Bought) and each.key == each.event.who for each in sends)
    assert len({each.key for each in sends}) <= 4
    assert {type(item) for item in sequence} <= {Send, Crash, Poison}


@given(event_sequences(TILL.buys, TILL.returns, key="who", crashes=False, size_max=3))
def test_a_sequence_is_as_plain_as_it_is_asked_for(sequence: list[Any]) -> None:
    assert len(sequence) <= 3
    assert {type(item) for item in sequence} <= {Send}


def test_the_field_of_the_key_must_be_one() -> None:
    with pytest.raises(DeclarationError, match="no event of topic buys has a field whom"):
        event_sequences(TILL.buys, key="whom")


def test_the_harness_needs_neither_hypothesis_nor_pytest_nor_httpx_to_be_imported() -> None:
    code = (
        "import sys, headrace.testing; "
        "loaded = {'hypothesis', 'pytest', 'httpx'} & sys.modules.keys(); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
