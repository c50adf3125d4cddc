"""Trace contexts are read as the W3C recommendation says: what is malformed counts as absent."""

import pytest

from headrace.events.trace import STATE_BYTES_MAX, TraceContext, parse_trace, trace_of

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
PARENT = b"00-" + TRACE + b"-" + SPAN + b"-01"


def test_a_valid_context_is_read_and_written_as_it_came() -> None:
    headers = [("hr", b"x"), ("traceparent", PARENT), ("tracestate", b"rojo=1,congo=t61")]
    trace = trace_of(headers)
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.is_sampled) == (TRACE.decode(), SPAN.decode(), True)
    assert list(trace.headers()) == headers[1:]


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        PARENT[:-1],
        PARENT.upper(),
        PARENT + b"-more",
        PARENT.replace(b"-", b"_"),
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        PARENT[:-2] + b"0x",
        PARENT + b"\n",
    ],
)
def test_a_malformed_parent_is_ignored_with_its_state(parent: bytes) -> None:
    assert parse_trace([parent], [b"rojo=1"]) is None


def test_two_parents_are_none() -> None:
    assert parse_trace([PARENT, PARENT], []) is None


def test_a_later_version_is_read_as_far_as_it_is_known_and_written_as_this_one() -> None:
    later = parse_trace([b"cc" + PARENT[2:-2] + b"03-what-comes"], [])
    assert later == TraceContext(PARENT)
    assert parse_trace([b"cc" + PARENT[2:] + b"what"], []) is None


@pytest.mark.parametrize(
    "state",
    [
        b"rojo",
        b"Rojo=1",
        b"rojo=1,rojo=2",
        b"rojo=\x7f",
        b"rojo=a\xc3\xa9",
        b",".join(b"k%d=1" % n for n in range(33)),
    ],
)
def test_a_malformed_state_is_dropped_and_the_parent_kept(state: bytes) -> None:
    assert parse_trace([PARENT], [state]) == TraceContext(PARENT)


def test_states_of_several_headers_are_one_list_and_empty_members_are_allowed() -> None:
    trace = parse_trace([PARENT], [b"a=1 ,, b@x=2", b"\tc=3"])
    assert trace is not None
    assert trace.state == b"a=1,b@x=2,c=3"


def test_of_too_much_state_long_members_go_first_then_the_last() -> None:
    short = [b"k%02d=%b" % (n, b"v" * 40) for n in range(12)]
    trace = parse_trace([PARENT], [b",".join([b"long=" + b"v" * 200, *short])])
    assert trace is not None
    assert trace.state == b",".join(short[:11])
    assert len(trace.state) <= STATE_BYTES_MAX


def test_the_sampled_flag_is_the_lowest_bit() -> None:
    assert not TraceContext(PARENT[:-2] + b"02").is_sampled
    assert TraceContext(PARENT[:-2] + b"03").is_sampled
