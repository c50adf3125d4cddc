"""An agent as the app declares it, and its one coroutine inside one task."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, NoReturn

from headrace.errors import AgentReturned, DeclarationError, HandlerError, HeadraceError, NotSupported
from headrace.events.envelope import EventIds, decode_envelope, place_ids
from headrace.events.position import TopicPartition
from headrace.flow.policy import DeadLetter, Policy
from headrace.flow.sink import Sink
from headrace.flow.stream import Stream
from headrace.flow.topic import Topic
from headrace.flow.tracing import HandTrace, TaskTrace
from headrace.log.port import Chunk

AgentFunction = Callable[[Stream[Any]], Awaitable[None]]

_UNSUPPORTED = ("send", "cast", "ask", "send_soon", "map", "kvmap", "join", "add_sink", "start", "stop")


class Agent:
    """A coroutine function that folds the events of one topic; declared by `@app.agent(topic)`."""

    def __init__(
        self,
        function: AgentFunction,
        topic: Topic[Any, Any],
        *,
        name: str,
        group: str,
        on_error: Policy | None = None,
        sink: Sink | None = None,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise DeclarationError(
                f"agent {name} is not a coroutine function without yield",
                hint="Write `async def agent(events): async for event in events: ...`; what it sends "
                "goes through topic.send(...).",
            )
        self.function = function
        self.topic = topic
        self.name = name
        self.group = group
        self.on_error: Policy = on_error or DeadLetter()
        """What becomes of an event that it cannot apply."""
        self.sink = sink
        """What it writes instead of tables, if it does."""
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<Agent {self.name} on {self.topic.name}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name in _UNSUPPORTED:
            raise NotSupported(f"Agent.{name} is not part of headrace yet; send to the agent's topic instead")
        raise AttributeError(name)


class AgentRun:
    """One agent at work in one task: its stream, and the identity of what it sends."""

    def __init__(self, agent: Agent, *, app: str, partition: int, trace: TaskTrace) -> None:
        self.agent = agent
        self.trace = HandTrace(trace, agent.name)
        self.stream: Stream[Any] = Stream(agent.topic, trace=self.trace)
        self._place = TopicPartition(agent.topic.name, partition)
        self._ids = EventIds(app, f"{agent.group}\0{agent.name}", *self._place)
        self._place_ids = place_ids(*self._place)
        self._source_offset = -1
        self._outputs = 0
        self.causes = b""
        """Correlation and causation id, 16 bytes each, of what is sent for the event in hand."""
        self._task: asyncio.Task[NoReturn] | None = None

    # --- life

    def start(self, context: Context, name: str) -> None:
        """Start the agent's coroutine, with a stream that knows nothing of earlier ones."""
        stream: Stream[Any] = Stream(self.agent.topic, trace=self.trace)
        self.stream = stream
        self._source_offset = -1
        self._task = asyncio.create_task(self._run(), name=name, context=context)
        self._task.add_done_callback(lambda _: stream.end())

    async def asked(self) -> int:
        """How many events of the run are finished, once the agent asks for more.

        Raises: what ended the agent: HandlerError, AgentReturned, or headrace's own errors.
        """
        finished = await self.stream.asked()
        assert self._task is not None
        if self._task.done():
            if self._task.cancelled():
                raise self._error(HandlerError, f"agent {self.agent.name} was cancelled by what it awaited")
            self._task.result()
        return finished

    def cancel(self) -> None:
        """Begin to end the agent's coroutine."""
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Return once the coroutine has ended, however it did."""
        if self._task is not None:
            if not self._task.done():
                await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()

    async def _run(self) -> NoReturn:
        try:
            with self.trace.of_agent():
                await self.agent.function(self.stream)
        except HeadraceError as error:
            if error.offset is None:
                error.add_note(f"in agent {self.agent.name}{self._where()}")
            raise
        except Exception as error:
            raise self._error(HandlerError, f"agent {self.agent.name} raised {error!r}") from error
        raise self._error(AgentReturned, f"agent {self.agent.name} returned")

    def _error(self, kind: type[HandlerError] | type[AgentReturned], what: str) -> HeadraceError:
        place = self.stream.place_in_hand
        offset = place[0].offsets[place[1]] if place else None
        return kind(what, topic=self._place.topic, partition=self._place.partition, offset=offset)

    def _where(self) -> str:
        place = self.stream.place_in_hand
        at = f", offset {place[0].offsets[place[1]]}" if place else ""
        return f" (topic {self._place.topic}, partition {self._place.partition}{at})"

    def next_output(self, chunk: Chunk, index: int) -> bytes:
        """The id of the next event sent for the event in hand, this one of the chunk; sets `causes`."""
        offset = chunk.offsets[index]
        if offset != self._source_offset:
            self._source_offset, self._outputs = offset, 0
            headers = chunk.headers[index]
            source = decode_envelope(headers) if headers else None
            # An event of a foreign producer has no id: its place in the log is its identity.
            source_id = source.event_id if source else self._place_ids.output(offset, 0)
            self.causes = ((source.correlation_id if source else b"") or source_id) + source_id
        event_id = self._ids.output(offset, self._outputs)
        self._outputs += 1
        return event_id
