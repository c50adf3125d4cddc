"""A key in its three forms: nothing is lost between them, and stores keep the order."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DeclarationError, DecodeError, UnencodableValue
from headrace.events.key import key_codec

KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text()),
    (int, st.integers(-(2**200), 2**200)),
    (bytes, st.binary()),
    (uuid.UUID, st.uuids()),
    (tuple[str, int], st.tuples(st.text(), st.integers(-(2**70), 2**70))),
    (tuple[bytes, uuid.UUID, str], st.tuples(st.binary(), st.uuids(), st.text())),
    (tuple[tuple[str, int], str], st.tuples(st.tuples(st.text(), st.integers(-9, 9)), st.text())),
]
CASES = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind[0]), kind[1], kind[1]))


@given(CASES)
def test_a_key_comes_back_from_the_wire_and_from_a_store(case: tuple[Any, Any, Any]) -> None:
    kind, key, _ = case
    codec = key_codec(kind)
    # JSON in Python and on the wire holds integers of 64 bits; larger ones only stand alone.
    if kind is int or not _has_large(key):
        assert codec.from_wire(codec.to_wire(key)) == key
    assert codec.from_store(codec.to_store(key)) == key


def _has_large(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(_has_large(part) for part in key)
    return isinstance(key, int) and not -(2**63) <= key < 2**63


@given(CASES)
def test_store_keys_have_the_order_of_the_keys(case: tuple[Any, Any, Any]) -> None:
    kind, one, other = case
    codec = key_codec(kind)
    assert (codec.to_store(one) < codec.to_store(other)) == (one < other)
    assert (codec.to_store(one) == codec.to_store(other)) == (one == other)


@pytest.mark.parametrize(
    ("kind", "key", "wire"),
    [
        (int, 1029, b"1029"),
        (int, -7, b"-7"),
        (str, "å", "å".encode()),
        (bytes, b"\0\xff", b"\0\xff"),
        (uuid.UUID, uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (tuple[int, str], (1, "a"), b'[1,"a"]'),
        (tuple[bytes, int], (b"\xfb\xff", 2), b'["-_8",2]'),
    ],
)
def test_a_key_on_the_wire_is_text_that_any_producer_can_make(kind: Any, key: Any, wire: bytes) -> None:
    assert key_codec(kind).to_wire(key) == wire
    assert key_codec(kind).from_wire(wire) == key


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        *[(int, raw) for raw in (b"", b"-", b"+1", b" 1", b"01", b"-0", b"1_0", b"1.0", "१".encode())],
        (str, b"\xff"),
        (uuid.UUID, b"00000000000000000000000000000001"),
        (uuid.UUID, b"ABCDEF00-0000-0000-0000-000000000001"),
        *[(tuple[int, str], raw) for raw in (b"[1]", b'[1, "a"]', b'["a",1]', b'[true,"a"]', b"{}", b"[1")],
        (tuple[bytes, int], b'["!",1]'),
        (tuple[bytes, int], b"[1,1]"),
    ],
)
def test_a_malformed_key_is_refused_and_so_is_a_second_form_of_one(kind: Any, wire: bytes) -> None:
    with pytest.raises(DecodeError):
        key_codec(kind).from_wire(wire)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (int, True),
        (int, "1"),
        (str, 1),
        (str, "\ud800"),
        (bytes, "a"),
        (uuid.UUID, "a"),
        (tuple[int, int], (1,)),
    ],
)
def test_a_key_of_another_type_is_refused(kind: Any, key: Any) -> None:
    with pytest.raises(UnencodableValue):
        key_codec(kind).to_wire(key)


@pytest.mark.parametrize("kind", [float, list[int], dict, tuple[int, ...], tuple[float, int], bool, None])
def test_a_type_that_cannot_be_a_key_is_refused_at_declaration(kind: Any) -> None:
    with pytest.raises(DeclarationError, match="cannot be a key type"):
        key_codec(kind)
