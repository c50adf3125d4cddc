"""From bytes to events, in slices, up to the first one that cannot be read."""

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from headrace.errors import DecodeError, HeadraceError, PartitionerMismatch
from headrace.flow.topic import Topic
from headrace.log.port import Chunk
from headrace.turns import Turns

_SLICE_EVENTS = 128
DECODED_AT_ONCE = 512
"""Events that are decoded before the first of them is handed out: so few are still in the caches by then."""
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError)


class Place(TypedDict):
    """Where an event lies, as errors take it."""

    topic: str
    partition: int
    offset: int


def place(chunk: Chunk, index: int) -> Place:
    """Where the event at this index lies."""
    return {"topic": chunk.topic, "partition": chunk.partition, "offset": chunk.offsets[index]}


async def decode_events(
    topic: Topic[Any, Any], chunk: Chunk, at: int, refused: Mapping[int, HeadraceError]
) -> tuple[list[Any], HeadraceError | None]:
    """Some events from `at` on, up to the first that cannot be handed out, and what is wrong with that one.

    Shape: `refused` holds indexes of the chunk that are known to be bad, and why.
    """
    values: list[Any] = []
    decode = topic.values.decode
    stop, error = _first_unfit(topic, chunk, at, refused)
    try:
        with Turns() as turns:
            for start in range(at, stop, _SLICE_EVENTS):
                for raw in chunk.values[start : min(start + _SLICE_EVENTS, stop)]:
                    values.append(None if raw is None else decode(raw))
                if turns.is_due:
                    await turns.give()
    except _UNREADABLE as cause:
        error = DecodeError(f"the event cannot be decoded: {cause}", **place(chunk, at + len(values)))
        error.__cause__ = cause
    return values, error


def _first_unfit(
    topic: Topic[Any, Any], chunk: Chunk, at: int, refused: Mapping[int, HeadraceError]
) -> tuple[int, HeadraceError | None]:
    """Where the events end that may be decoded, and why they end there."""
    stop: int = min(at + DECODED_AT_ONCE, len(chunk))
    error: HeadraceError | None = None
    if topic.is_keyed and None in chunk.keys[at:stop]:
        stop = chunk.keys.index(None, at)
        error = DecodeError("the event has no key, and its topic declares one", **place(chunk, stop))
    known = min((index for index in refused if at <= index < stop), default=stop)
    return (known, refused[known]) if known < stop else (stop, error)


def check_placement(topic: Topic[Any, Any], chunk: Chunk, partitions: int) -> None:
    """Refuse a chunk whose first keyed event lies where the partitioner does not put it.

    Raises: PartitionerMismatch.
    """
    index = next((at for at, key in enumerate(chunk.keys) if key is not None), None)
    if index is None or not topic.is_keyed or partitions == 1:
        return
    key = chunk.keys[index] or b""
    home = topic.partitioner.place(key, partitions)
    if home != chunk.partition:
        what = f"the key {key[:80]!r} belongs to partition {home} by {topic.partitioner}"
        raise PartitionerMismatch(what, **place(chunk, index))
