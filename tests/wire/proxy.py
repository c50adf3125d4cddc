"""A proxy between clients and brokers that understands Kafka's frames and breaks them as it is told."""

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.wire.frames import (
    Address,
    Api,
    brokers_of,
    framed,
    read_correlation_id,
    read_frame,
    read_head,
    refusal,
    with_brokers,
)
from tests.wire.script import Fault, Point, Rule, Script

_HOST = "127.0.0.1"
_LINGER_S = 2.0
_METADATA_VERSION = 10


@dataclass(slots=True)
class _Asked:
    """A request whose reply has not gone back yet."""

    at: Point
    version: int
    correlation_id: int
    rule: Rule | None
    frame: bytes
    answer: bytes | None = None
    """Set for one that is answered without the broker."""

    def has(self, fault: Fault) -> bool:
        return self.rule is not None and self.rule.fault is fault


class Proxy:
    """Doors to the brokers of one cluster, each with an address of its own. `async with Proxy(...)`.

    Every metadata reply is rewritten, so that a client that came in by one door finds the others.
    """

    def __init__(self, broker: str, script: Script | None = None) -> None:
        self.script = script or Script()
        host, _, port = broker.partition(":")
        self._broker = (host, int(port))
        self._doors: dict[Address, asyncio.Server] = {}
        self._places: dict[Address, Address] = {}
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self.connections = 0
        """How many there were."""
        self.failures: list[BaseException] = []
        """What the proxy itself could not do; leaving it raises the first."""

    @property
    def address(self) -> str:
        """Host and port for clients."""
        host, port = self._places[self._broker]
        return f"{host}:{port}"

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self.place_of(self._broker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for door in self._doors.values():
            door.close()
        for link in self._links:
            link.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failures and error is None:
            raise self.failures[0]

    async def place_of(self, broker: Address) -> Address:
        """The door to this broker, opened when first needed."""
        async with self._opening:
            if broker not in self._places:

                def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    task = asyncio.create_task(self._enter(broker, reader, writer), name="proxy-link")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

                door = await asyncio.start_server(enter, _HOST, 0)
                self._doors[broker] = door
                self._places[broker] = (_HOST, door.sockets[0].getsockname()[1])
            return self._places[broker]

    async def send_raw(self, frame: bytes) -> bytes:
        """Deliver a frame on a connection of its own; the broker's answer."""
        reader, writer = await asyncio.open_connection(*self._broker)
        try:
            writer.write(framed(frame))
            answer = await read_frame(reader)
            if answer is None:
                raise ConnectionError("the broker gave no answer")
            return answer
        finally:
            writer.close()

    async def _enter(
        self, broker: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        _, rule = self.script.arrive(Api.CONNECT)
        if rule is not None:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(*broker)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One connection of a client, and the one to the broker behind it."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._script = proxy.script
        self._from_client, self._to_client = client
        self._from_broker, self._to_broker = broker
        self._asked: deque[_Asked] = deque()
        self._is_answered = asyncio.Event()
        self._swallows_requests = False
        self._swallows_replies = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Carry frames both ways until both sides are gone."""
        up = asyncio.create_task(self._carry_requests(), name="proxy-up")
        down = asyncio.create_task(self._carry_replies(), name="proxy-down")
        self._tasks = [up, down]
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                await self._linger()
        finally:
            self.end()
            outcomes = await asyncio.gather(up, down, return_exceptions=True)
            self._proxy.failures += [each for each in outcomes if isinstance(each, Exception)]

    def end(self) -> None:
        """Close both sides."""
        for task in self._tasks:
            task.cancel()
        self._to_client.transport.abort()
        self._to_broker.transport.abort()

    async def _linger(self) -> None:
        """Let the broker answer what it has, although the client is gone: it then has handled it."""
        try:
            async with asyncio.timeout(_LINGER_S):
                while self._asked:
                    self._is_answered.clear()
                    await self._is_answered.wait()
        except TimeoutError:
            return

    async def _carry_requests(self) -> None:
        while (frame := await read_frame(self._from_client)) is not None:
            head = read_head(frame)
            at, rule = self._script.arrive(head.api, frame)
            fault = rule.fault if rule is not None else None
            if fault is Fault.CUT_REQUEST:
                self._to_client.transport.abort()
                return
            self._swallows_requests |= fault is Fault.SWALLOW_REQUESTS
            if self._swallows_requests:
                continue
            asked = _Asked(at, head.version, head.correlation_id, rule, frame)
            if rule is not None and fault is Fault.REFUSE:
                asked.answer = refusal(frame, rule.code)
                self._asked.append(asked)
                await self._give_answers()
                continue
            if rule is not None and fault is Fault.HOLD_REQUEST:
                await self._script.hold(rule)
            self._asked.append(asked)
            self._to_broker.write(framed(frame))
            self._script.note_sent(at)
            if fault is Fault.CUT_AFTER_REQUEST:
                self._to_client.transport.abort()
                return

    async def _carry_replies(self) -> None:
        while (frame := await read_frame(self._from_broker)) is not None:
            asked = self._asked[0]
            if read_correlation_id(frame) != asked.correlation_id:
                raise AssertionError("a broker answers in order")
            self._script.note_answered(asked.at, frame)
            if not await self._pass_back(asked, frame):
                return
            self._asked.popleft()
            self._is_answered.set()
            await self._give_answers()

    async def _pass_back(self, asked: _Asked, frame: bytes) -> bool:
        """Give the client this reply, or what becomes of it; false once the connection is cut."""
        if asked.at.api is Api.METADATA:
            if asked.version != _METADATA_VERSION:
                raise AssertionError(f"metadata of version {asked.version} would lead around the proxy")
            places = {broker: await self._proxy.place_of(broker) for broker in brokers_of(frame)}
            frame = with_brokers(frame, {} if asked.has(Fault.MISTELL) else places)
        elif asked.rule is not None and asked.has(Fault.MISTELL):
            frame = refusal(asked.frame, asked.rule.code)
        if asked.rule is not None:
            if asked.has(Fault.CUT_REPLY):
                self._to_client.transport.abort()
                return False
            if asked.has(Fault.HOLD_REPLY):
                await self._script.hold(asked.rule)
            self._swallows_replies |= asked.has(Fault.SWALLOW_REPLIES)
        if not self._swallows_replies and not asked.has(Fault.DROP_REPLY):
            self._to_client.write(framed(frame))
        return True

    async def _give_answers(self) -> None:
        """Answer what is refused, as soon as all that was asked before it is answered."""
        while self._asked and (answer := self._asked[0].answer) is not None:
            self._asked.popleft()
            if not self._swallows_replies:
                self._to_client.write(framed(answer))
            self._is_answered.set()
