"""Tokens that were made up, and clients that wait in crowds: clear answers, and nothing is held."""

import asyncio
import base64
import random
import tracemalloc
from collections.abc import Iterator, MutableMapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.events import token as tokens
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import Seen, partition_print, topic_print
from headrace.events.token import Token
from headrace.http.application import Application, build_application
from headrace.http.source import UserRoute
from headrace.settings import Settings
from headrace.testing.virtual_clock import VirtualClock
from tests.http.patient import KEY, PATH, Waiting, at_least, balances, settled
from tests.http.service import INPUT, Service, client

SEED = 52
FORGED = 1_500
CROWD, TRACED = 10_000, 2_000


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(chance: random.Random, true: str) -> Iterator[str]:
    """Tokens that were tampered with: bits, lengths, versions, numbers, and other things altogether."""
    raw = base64.urlsafe_b64decode(true + "=" * (-len(true) % 4))
    for version in range(256):
        yield text_of(bytes((version,)) + raw[1:])
    for cut in range(len(raw)):
        yield text_of(raw[:cut])
    cluster, is_cut, topics = msgspec.msgpack.decode(raw[1:])
    ((topic, flat),) = topics
    payloads: tuple[Any, ...] = (
        [cluster, is_cut, [[topic, [flat[0], 2**62]]]],
        [cluster, is_cut, [[topic, [flat[0], 2**63 - 1]]]],
        [cluster, is_cut, [[topic, [flat[0], 2**63]]]],
        [cluster, is_cut, [[topic, [flat[0], -1]]]],
        [cluster, is_cut, [[topic, [2**31 - 1, 1]]]],
        [cluster, is_cut, [[topic, [2**31, 1]]]],
        [cluster, is_cut, [[topic, [0]]]],
        [cluster, is_cut, [[topic, [at for n in range(129) for at in (n, 1)]]]],
        [cluster, is_cut, [[bytes(10), [n, 1]] for n in range(200)]],
        [b"abcd", is_cut, topics],
        [cluster, "yes", topics],
        {},
        [[]] * 1_000,
    )
    for payload in payloads:
        yield text_of(raw[:1] + msgspec.msgpack.encode(payload))
    while True:
        changed = bytearray(raw)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield text_of(bytes(changed))
        yield "".join(chance.choice("AgT-_09zZ =+/\x7f") for _ in range(chance.randrange(60)))


async def test_forged_tokens_are_judged_at_once_and_nobody_waits_for_them() -> None:
    ran: list[str] = []

    async def endpoint(request: Request) -> Response:
        ran.append(request.headers["Headrace-Position"])
        return JSONResponse({})

    world = Waiting()
    world.service = Service(
        balances, routes=[UserRoute(path="/do", endpoint=endpoint, methods=("POST",))], clock=world.clock
    )
    world.view = world.service.put(balances, KEY, 1, offset_next=3)
    made_up = forged(random.Random(SEED), world.token(3))
    statuses: set[int] = set()
    async with client(world.service) as http:
        for _, token in zip(range(FORGED), made_up, strict=False):
            headers = {b"Headrace-Position": token.encode("latin-1")}
            read, written = await http.get(PATH, headers=headers), await http.post("/do", headers=headers)
            assert read.status_code in {200, 400, 409}, f"seed={SEED} {token}"
            assert written.status_code == read.status_code, f"seed={SEED} {token}"
            statuses.add(read.status_code)
            if read.status_code == 200:
                seen = Token.parse(token).seen
                reached = Token.parse(read.headers["Headrace-Position"]).seen
                assert reached.covers(seen) or "Headrace-Unproven" in read.headers
    assert statuses == {200, 400, 409}
    assert world.clock.passed_s == 0.0
    assert (len(world.service.waits.room), world.clock.timers) == (0, 0)
    assert all(Token.parse(token) for token in ran)


class Crowd:
    """Requests that wait, as many as one likes, straight at the application."""

    def __init__(self, application: Application, headers: list[tuple[bytes, bytes]]) -> None:
        self._application = application
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": headers,
        }
        self.statuses: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, count: int) -> None:
        for _ in range(count):
            call = self._application(dict(self._scope), self._receive, self._send)
            self._tasks.append(asyncio.create_task(call, name="request"))
        await settled()

    async def _receive(self) -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    async def go(self) -> None:
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.result()


def test_a_short_token_is_parsed_once_and_long_ones_fill_no_memory() -> None:
    prints = [partition_print(topic_print(f"topic-{at}", f"id-{at}"), at) for at in range(40)]
    short = Token(b"abcd", Seen({prints[0]: 7})).text()
    assert Token.parse(short) is Token.parse(short)
    kept = tokens._parsed_once.cache_info().currsize
    for end in range(1, 200):
        text = Token(b"abcd", Seen(dict.fromkeys(prints, end))).text()
        assert len(text) > tokens._CACHED_BYTES_MAX
        assert Token.parse(text).seen[prints[1]] == end
    assert tokens._parsed_once.cache_info().currsize == kept


async def test_ten_thousand_idle_waiters_hold_little_memory_and_nobody_up() -> None:
    world = Waiting(Settings(http="127.0.0.1:0", read_waiters_max=CROWD))
    place = TopicPartition(INPUT, world.view.partition)
    world.service.append(place.partition, 5)
    headers = [(b"headrace-position", world.token(5).encode()), (b"prefer", b"wait=30")]
    crowd = Crowd(build_application(world.service), headers)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await crowd.come(TRACED)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (held - before) / TRACED < 10_000, "bytes for each request"
    await crowd.come(CROWD - TRACED)
    assert (len(world.service.waits.room), world.clock.timers) == (CROWD, CROWD)
    assert len(world.service.cluster.questions) <= 2

    async with client(world.service) as http:
        assert (await http.get(PATH)).status_code == 200, "who need not wait is answered"
        refused = await http.get(PATH, headers=at_least(world.token(5)))
        assert (refused.status_code, refused.json()["error"]) == (503, "TooManyWaiters")
    world.view.advance(Position({place: 4}))
    await settled()
    assert crowd.statuses == [], "the partition goes on, and none of them is touched"

    world.clock.move_to(30.0)
    await settled()
    world.clock.move_to(31.0)
    await crowd.go()
    assert crowd.statuses == [503] * CROWD
    assert (len(world.service.waits.room), world.clock.timers) == (0, 0)


async def test_tokens_with_topics_that_nobody_knows_make_the_log_be_asked_once_in_a_while() -> None:
    clock = VirtualClock()
    service = Service(balances, clock=clock)
    service.put(balances, KEY, 1)
    cluster = Token.nothing(service.catalog).cluster
    chance = random.Random(SEED)
    async with client(service) as http:
        for _ in range(300):
            topic = bytes(chance.randrange(256) for _ in range(10))
            payload = [cluster, False, [[topic, [0, 1]]]]
            text = text_of(b"\2" + msgspec.msgpack.encode(payload))
            answer = await http.get(PATH, headers=at_least(text))
            assert answer.headers["Headrace-Unproven"] == f"{topic.hex()}/0@1"
    assert service.simulated.listings == 1
