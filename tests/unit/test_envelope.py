"""What travels beside an event comes back whole, and what does not is a DecodeError."""

import uuid
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import DecodeError
from headrace.events.envelope import (
    HEADER,
    Envelope,
    EventIds,
    decode_envelope,
    encode_cloudevent,
    encode_envelope,
    encode_output,
    fresh_event_id,
)

ids = st.binary(min_size=16, max_size=16)
envelopes = st.builds(
    Envelope, ids, st.integers(0, 4_102_444_800_000), st.just(b"") | ids, st.just(b"") | ids, st.binary()
)


@given(envelopes)
def test_an_envelope_comes_back_from_its_compact_form(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


@given(envelopes)
@example(Envelope(bytes(16), 64_329))  # as a float in seconds it lies just below its millisecond
def test_an_envelope_comes_back_from_cloudevents_headers(envelope: Envelope) -> None:
    assert decode_envelope(encode_cloudevent(envelope, source="/shop", type_name="Bought")) == envelope


@given(envelopes, st.data())
def test_an_envelope_that_was_cut_is_a_decode_error_or_another_envelope(
    envelope: Envelope, data: st.DataObject
) -> None:
    ((name, raw),) = encode_envelope(envelope)
    cut = raw[: data.draw(st.integers(0, len(raw)))]
    with suppress(DecodeError):
        assert decode_envelope([(name, cut)]) is not None


@given(st.binary())
def test_garbage_in_the_header_is_a_decode_error_or_an_envelope(raw: bytes) -> None:
    with suppress(DecodeError):
        assert decode_envelope([(HEADER, raw)]) is not None


@given(
    st.dictionaries(
        st.sampled_from(["ce_id", "ce_time", "ce_correlationid", "ce_headracestamp"]), st.binary()
    )
)
def test_garbage_in_cloudevents_headers_is_a_decode_error_or_an_envelope(headers: dict[str, bytes]) -> None:
    with suppress(DecodeError):
        assert decode_envelope([("ce_specversion", b"1.0"), *headers.items()]) is not None


def test_events_without_an_envelope_have_none() -> None:
    assert decode_envelope(()) is None
    assert decode_envelope([("till", b"4")]) is None


def test_a_foreign_cloudevents_id_is_any_text() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"order/17")]
    one, again = decode_envelope(headers), decode_envelope(headers)
    assert one is not None
    assert one == again
    assert len(one.event_id) == 16


@given(st.integers(0, 2**62), st.integers(0, 2**30))
def test_the_id_of_an_output_depends_on_its_cause_alone(offset: int, index: int) -> None:
    one = EventIds("shop", "main", "buys", 3)
    assert one.output(offset, index) == EventIds("shop", "main", "buys", 3).output(offset, index)
    others = [
        one.output(offset + 1, index),
        one.output(offset, index + 1),
        EventIds("shop", "main", "buys", 4).output(offset, index),
        EventIds("shop", "side", "buys", 3).output(offset, index),
        EventIds("stop", "main", "buys", 3).output(offset, index),
    ]
    assert one.output(offset, index) not in others
    assert uuid.UUID(bytes=one.output(offset, index)).version == 8


@given(
    st.tuples(st.integers(0, 2**46), st.integers(0, 2**17)),
    st.tuples(st.integers(0, 2**46), st.integers(0, 2**17)),
)
@example((2**45 - 1, 0), (2**45, 0))
@example((7, 2**16 - 1), (7, 2**16))
@example((1, 0), (0, 2**16))
def test_no_two_outputs_of_a_task_have_the_same_id(one: tuple[int, int], other: tuple[int, int]) -> None:
    ids = EventIds("shop", "main", "buys", 3)
    assert (ids.output(*one) == ids.output(*other)) is (one == other)


def test_the_header_of_an_output_is_that_of_its_envelope() -> None:
    envelope = Envelope(b"e" * 16, 1_790_000_000_000, b"c" * 16, b"s" * 16, b"\x01stamp")
    at_once = encode_output(envelope.event_id, envelope.time_ms, b"c" * 16 + b"s" * 16, envelope.stamp)
    assert at_once == encode_envelope(envelope)


def test_fresh_ids_differ() -> None:
    assert len({fresh_event_id() for _ in range(100)}) == 100


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_envelope_of_an_unknown_version_is_refused(version: int) -> None:
    ((name, raw),) = encode_envelope(Envelope(bytes(16), 0))
    with pytest.raises(DecodeError, match=f"version {version}"):
        decode_envelope([(name, bytes((version,)) + raw[1:])])
