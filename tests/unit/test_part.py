"""Parts of a page: whatever each worker sends of it, the page has every row up to its end, once."""

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events.key import key_codec
from headrace.http.part import BadPart, Part, decode_part, page_of, take_part
from headrace.http.query import RowRange

KEYS = key_codec(int)
PREFIX = b"t\0"
ALL = RowRange(PREFIX, b"t\1", 10)


def store_key(key: int) -> bytes:
    return PREFIX + KEYS.to_store(key)


def part_of(keys: list[int], sent: int) -> Part:
    """The first of these keys; the others are left for the next page."""
    rows = [(store_key(key), b"%d" % key) for key in sorted(keys)]
    return Part(rows[:sent], sent < len(rows))


@given(
    st.lists(st.lists(st.integers(-50, 50), max_size=20, unique=True), min_size=1, max_size=4),
    st.data(),
    st.integers(1, 30),
)
def test_a_page_is_the_beginning_of_all_rows_and_ends_only_where_none_is_missing(
    shares: list[list[int]], data: st.DataObject, rows_max: int
) -> None:
    # A key belongs to one partition, and so to one worker.
    owned = [sorted({key for key in keys if key % len(shares) == n}) for n, keys in enumerate(shares)]
    every = sorted(key for keys in owned for key in keys)
    parts = [part_of(keys, data.draw(st.integers(1, len(keys)) if keys else st.just(0))) for keys in owned]
    page = msgspec.json.decode(page_of(parts, KEYS, len(PREFIX), rows_max))
    shown = [row["key"] for row in page["rows"]]
    assert shown == every[: len(shown)]
    assert len(shown) <= rows_max
    assert (page["cursor"] is None) == (shown == every)
    # There is always a step forward.
    assert shown or not every


def test_a_part_that_another_worker_sends_is_the_part_that_comes() -> None:
    part = part_of([1, 2, 3], 2)
    assert decode_part(part.encode(), ALL) == part


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        msgspec.msgpack.encode((True, [])),
        msgspec.msgpack.encode((False, [(store_key(2), b"2"), (store_key(1), b"1")])),
        msgspec.msgpack.encode((False, [(store_key(1), b"1"), (store_key(1), b"1")])),
        msgspec.msgpack.encode((False, [(b"another\0" + store_key(1), b"1")])),
        msgspec.msgpack.encode((False, [(b"t\1", b"1")])),
        msgspec.msgpack.encode((False, [("text", "1")])),
    ],
)
def test_what_breaks_the_promises_of_a_part_is_refused(body: bytes) -> None:
    with pytest.raises(BadPart):
        decode_part(body, ALL)


def test_a_part_is_bounded_in_bytes_and_still_has_a_row_of_any_size() -> None:
    large = b"1" * 3 * 1024 * 1024
    rows = [(store_key(key), large) for key in range(5)]
    part = take_part(iter(rows), None, 10, threading.Event())
    assert (len(part.rows), part.has_more) == (1, True)
    huge = take_part(iter([(store_key(0), large * 3)]), None, 10, threading.Event())
    assert (len(huge.rows), huge.has_more) == (1, False)
