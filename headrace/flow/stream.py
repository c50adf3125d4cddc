"""What an agent iterates over: the events of its topic, one in hand at a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from headrace.errors import NotSupported
from headrace.events.envelope import Envelope, decode_envelope, id_text, place_id
from headrace.events.event import Correction
from headrace.flow.topic import Topic
from headrace.flow.tracing import HandTrace
from headrace.log.port import Chunk
from headrace.turns import Turns

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

_SLICE_EVENTS = 32

_UNSUPPORTED = (
    "take", "take_with_timestamp", "group_by", "filter", "through", "echo", "items", "enumerate", "join",
    "left_join", "inner_join", "outer_join", "combine", "contribute_to_stream", "derive_topic", "noack",
    "rate_limit", "tee", "forward", "ack",
)  # fmt: skip


class Delivery(Generic[E_co]):
    """One event with its place in the log, as `events.events()` gives it."""

    __slots__ = ("_chunk", "_index", "_topic", "value")

    def __init__(self, topic: Topic[Any, Any], chunk: Chunk, index: int, value: E_co) -> None:
        self._topic = topic
        self._chunk = chunk
        self._index = index
        self.value = value

    @property
    def key(self) -> Any:
        """The key in the type that the topic declares; None when absent. Raises: DecodeError."""
        raw = self._chunk.keys[self._index]
        return None if raw is None else self._topic.keys.from_wire(raw)

    @property
    def headers(self) -> dict[str, bytes]:
        """The headers by name; of a repeated name the last one."""
        return dict(self._chunk.headers[self._index])

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._chunk.topic

    @property
    def partition(self) -> int:
        """Partition the event lies in."""
        return self._chunk.partition

    @property
    def offset(self) -> int:
        """The event's own offset."""
        return self._chunk.offsets[self._index]

    @property
    def timestamp(self) -> float:
        """The record's time in seconds since the epoch."""
        return self._chunk.timestamps_ms[self._index] / 1000

    @property
    def envelope(self) -> Envelope | None:
        """Identity and causes; None from producers that send none. Raises: DecodeError."""
        return decode_envelope(self._chunk.headers[self._index])

    @property
    def event_id(self) -> str:
        """The event's id, a UUID; made of its place where its producer gave none. Raises: DecodeError."""
        envelope = self.envelope
        return id_text(envelope.event_id if envelope else place_id(self.topic, self.partition, self.offset))

    @property
    def corrects(self) -> str:
        """Id of the event that this one corrects; empty for a fact that is no correction."""
        return self.value.corrects if isinstance(self.value, Correction) else ""


class Stream(AsyncIterator[E]):
    """The events of one topic in one task, in offset order; `None` stands for a tombstone.

    The next event is handed out when it is asked for, without suspending, except that every 1 ms,
    or more often where several tasks are at work, the loop's others get a turn. `async for` never ends
    while the task lives.
    """

    def __init__(
        self,
        topic: Topic[Any, Any],
        *,
        clock: Callable[[], float] = time.perf_counter,
        trace: HandTrace | None = None,
    ) -> None:
        self._topic = topic
        self._clock = clock
        self._trace = trace if trace is not None and trace.is_recording else None
        self._values: Sequence[Any] = ()
        self._index = -1
        self._pause_at = 0
        self._count = 0
        self._base = 0
        self._start = 0
        self._deadline = float("inf")
        self._turns = Turns()
        self._chunk: Chunk | None = None
        self._asks = asyncio.Event()
        self._has_run = asyncio.Event()

    def __aiter__(self) -> "Stream[E]":
        return self

    async def __anext__(self) -> E:
        index = self._index = self._index + 1
        if index < self._pause_at:
            return self._values[index]  # type: ignore[no-any-return]
        return await self._next_slice()

    async def _next_slice(self) -> E:
        while True:
            now = self._clock()
            if self._index < self._count and (now < self._deadline or self._index == self._start):
                if self._turns.is_due:
                    await self._turns.give()
                self._pause_at = min(self._index + _SLICE_EVENTS, self._count)
                if self._trace is not None:
                    again = self._trace.handed(self._base + self._index) - self._base
                    self._pause_at = min(self._pause_at, again)
                return self._values[self._index]  # type: ignore[no-any-return]
            if self._trace is not None:
                self._trace.finished()
            self._count = self._pause_at = self._index
            self._turns.end()
            self._has_run.clear()
            self._asks.set()
            await self._has_run.wait()

    async def events(self) -> AsyncIterator[Delivery[E]]:
        """The same events with key, headers, offset, partition, timestamp and id."""
        async for value in self:
            assert self._chunk is not None
            yield Delivery(self._topic, self._chunk, self._base + self._index, value)

    # --- what the task does with it

    def hand_out(
        self,
        chunk: Chunk,
        values: Sequence[Any],
        deadline: float,
        *,
        base: int = 0,
        start: int = 0,
    ) -> None:
        """Give a run of events; `asked` tells when the agent wants the next run.

        Shape: `values[0]` is the event at index `base` of the chunk; the run begins with
        `values[start]`.
        """
        self._chunk, self._values, self._base = chunk, values, base
        self._index = self._start = start
        self._count, self._deadline, self._pause_at = len(values), deadline, 0
        self._turns.begin()
        if self._trace is not None:
            self._trace.begin(chunk)
        self._asks.clear()
        self._has_run.set()

    async def asked(self) -> int:
        """How many events of the run are finished, once the agent asks for more or has ended."""
        await self._asks.wait()
        return self._index

    def end(self) -> None:
        """Wake who waits for the agent: it will not ask any more."""
        self._turns.end()
        self._asks.set()

    def stop_early(self) -> None:
        """Let the run end at the next event that is asked for."""
        self._deadline = float("-inf")
        self._pause_at = min(self._pause_at, self._index + 1)

    @property
    def index(self) -> int:
        """Index into the run's values of the event that was handed out last."""
        return self._index

    def in_hand(self) -> tuple[Chunk, int]:
        """The chunk and index of the event that was handed out last; asked while an agent is at work."""
        assert self._chunk is not None
        return self._chunk, self._base + self._index

    @property
    def place_in_hand(self) -> tuple[Chunk, int] | None:
        """The chunk and index of the event in hand; None between runs."""
        if self._chunk is None or self._asks.is_set():
            return None
        return self._chunk, self._base + self._index

    def __getattr__(self, name: str) -> NoReturn:
        if name in _UNSUPPORTED:
            raise NotSupported(f"Stream.{name} is not part of headrace yet")
        raise AttributeError(name)
