"""Values as bytes: JSON by type, with a clear no to what JSON cannot hold."""

import enum
import math
from typing import Any

import msgspec
import pytest

from headrace.errors import DeclarationError, DecodeError, UnencodableValue
from headrace.events.value import row_codec, topic_codec


class Frozen(msgspec.Struct, frozen=True):
    """Immutable through and through."""

    name: str
    scores: tuple[float, ...] = ()


class Loose(msgspec.Struct, frozen=True):
    """Frozen itself, but not what it holds."""

    names: list[str]


class Open(msgspec.Struct):
    """Not frozen."""

    name: str


class Colour(enum.Enum):
    """One of two."""

    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("kind", "value", "raw"),
    [
        (int, 5, b"5"),
        (float, 0.5, b"0.5"),
        (str, "å", '"å"'.encode()),
        (bytes, b"\0\xff", b'"AP8="'),
        (Frozen, Frozen("a", (1.0,)), b'{"name":"a","scores":[1.0]}'),
        (dict[str, int], {"a": 1}, b'{"a":1}'),
        (Colour, Colour.RED, b'"red"'),
        (int | None, None, b"null"),
    ],
)
def test_a_row_is_the_json_that_http_returns(kind: Any, value: Any, raw: bytes) -> None:
    codec = row_codec(kind)
    codec.check(value)
    assert codec.encode(value) == raw
    assert codec.decoded(raw) == value


def test_events_of_type_bytes_stay_as_they_are() -> None:
    codec = topic_codec(bytes)
    assert codec.encode(b"\0\xff") == codec.decoded(b"\0\xff") == b"\0\xff"


@pytest.mark.parametrize(
    ("kind", "is_immutable"),
    [
        (int, True), (str, True), (Frozen, True), (Colour, True), (tuple[int, ...], True), (int | None, True),
        (Loose, False), (Open, False), (dict, False), (list[int], False), (tuple[list[int], int], False),
        (Any, False),
    ],
)  # fmt: skip
def test_only_what_nobody_can_change_in_place_is_shared(kind: Any, is_immutable: bool) -> None:
    assert row_codec(kind).is_immutable is is_immutable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    for kind, held in ((float, value), (Frozen, Frozen("a", (value,))), (dict[str, float], {"a": value})):
        with pytest.raises(UnencodableValue, match="NaN or an infinity"):
            row_codec(kind).check(held)


@pytest.mark.parametrize("value", ["\ud800", object(), {1, object()}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UnencodableValue, match="has no JSON form"):
        row_codec(Any).encode(value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1", b'"a"', b"1.5", b"\xff"])
def test_bytes_that_do_not_fit_are_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        row_codec(int).decoded(raw)


def test_a_type_without_a_json_form_is_refused_at_declaration() -> None:
    with pytest.raises(DeclarationError, match="cannot be a value type"):
        row_codec(Open | Frozen)
