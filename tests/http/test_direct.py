"""Reads that are answered as soon as they are parsed: which are, and what becomes of the connection."""

import asyncio
from collections.abc import Sequence

import pytest
import uvicorn
from uvicorn.server import ServerState

from headrace.events.token import Token
from headrace.http.application import build_application
from headrace.http.bounded import Bounds
from headrace.http.httptools import bounded_httptools
from headrace.http.peers.proof import HOP
from headrace.settings import Settings
from tests.http.service import Service, served
from tests.http.wire import Wire

balances = served("balances", int, partitions=1)
SECRET = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
HOST = (b"host", b"x")
READ = b"GET /balances/1 HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD_TIMEOUT_S, KEEP_ALIVE_S = 10.0, 5


class Connection:
    """A connection to a worker, without a network: what is given to it and what it writes, turn by turn."""

    def __init__(self, service: Service, limit_concurrency: int | None = None) -> None:
        application = build_application(service)
        bounds = Bounds(
            head_bytes_max=65_536, head_timeout_s=HEAD_TIMEOUT_S, send_timeout_s=10.0, connections_max=100
        )
        protocol = bounded_httptools(bounds, application.direct)
        config = uvicorn.Config(
            application,
            ws="none",
            lifespan="off",
            log_config=None,
            limit_concurrency=limit_concurrency,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        self.wire = Wire()
        self.protocol = protocol(config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    def give(self, data: bytes) -> None:
        """Data arrives."""
        self.protocol.data_received(data)

    @property
    def answers(self) -> int:
        """How many whole answers were written."""
        return b"".join(self.wire.writes).count(b"HTTP/1.1 200 ")

    def waits_s(self) -> Sequence[float]:
        """The time-outs that run."""
        own = vars(self.protocol)
        resting = own["_rest_timeout"] if own["_rests_since_s"] is not None else None
        timers = (self.protocol.timeout_keep_alive_task, own["_request_timeout"], resting)
        now = asyncio.get_running_loop().time()
        return [round(timer.when() - now) for timer in timers if timer is not None]


def one_row(settings: Settings | None = None) -> Service:
    service = Service(balances, settings=settings)
    service.put(balances, 1, {"points": 7}, offset_next=5)
    return service


def token(service: Service, offset_next: int) -> bytes:
    return Token.of(service.position(0, offset_next), service.catalog).text().encode()


def placed(service: Service, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """These headers, with a token in the place of each offset in braces."""
    return [
        (name, token(service, int(value[1:-1])) if value[:1] == b"{" else value) for name, value in headers
    ]


async def test_a_plain_read_is_answered_in_the_turn_in_which_it_arrives() -> None:
    connection = Connection(one_row())
    for number in range(1, 4):
        connection.give(READ)
        assert connection.answers == number
    assert connection.wire.writes[0].endswith(b'\r\n\r\n{"points":7}')


async def test_a_read_that_comes_in_pieces_is_answered_with_its_last_one() -> None:
    connection = Connection(one_row())
    for at in range(len(READ) - 1):
        connection.give(READ[at : at + 1])
    assert connection.answers == 0
    connection.give(READ[-1:])
    assert connection.answers == 1


async def test_of_many_reads_that_come_together_the_first_is_answered_and_the_others_take_turns() -> None:
    connection = Connection(one_row())
    connection.give(READ * 5)
    assert connection.answers == 1
    for _ in range(20):
        await asyncio.sleep(0)
    assert connection.answers == 5


async def test_nothing_overtakes_an_answer_that_is_still_being_made() -> None:
    connection = Connection(one_row())
    connection.give(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.give(READ)
    assert connection.wire.writes == []
    for _ in range(20):
        await asyncio.sleep(0)
    first, second = b"".join(connection.wire.writes).split(b"HTTP/1.1 200 OK")[1:]
    assert b"live" in first or b"status" in first
    assert second.endswith(b'{"points":7}')


async def test_a_connection_waits_for_its_next_request_as_long_as_behind_any_other_answer() -> None:
    connection = Connection(one_row())
    assert connection.waits_s() == [HEAD_TIMEOUT_S]
    connection.give(READ)
    assert connection.waits_s() == [KEEP_ALIVE_S]
    connection.give(READ)
    assert connection.waits_s() == [KEEP_ALIVE_S]
    connection.give(READ[:10])
    assert connection.waits_s() == [HEAD_TIMEOUT_S]
    connection.give(READ[10:] + READ[:10])
    assert connection.waits_s() == [HEAD_TIMEOUT_S]


async def test_a_connection_that_is_silent_behind_its_answer_is_let_go() -> None:
    connection = Connection(one_row())
    connection.protocol.timeout_keep_alive = 0
    connection.give(READ)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (connection.answers, connection.wire.has_ended) == (1, True)


async def test_a_connection_on_which_requests_come_is_not_let_go_of() -> None:
    connection = Connection(one_row())
    connection.protocol.timeout_keep_alive = 0
    connection.give(READ)
    connection.protocol.timeout_keep_alive = KEEP_ALIVE_S
    connection.give(READ)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (connection.answers, connection.wire.has_ended) == (2, False)
    assert connection.waits_s() == [KEEP_ALIVE_S]


async def test_a_connection_that_is_to_end_is_closed_behind_its_answer() -> None:
    connection = Connection(one_row())
    connection.give(READ.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (connection.answers, connection.wire.has_ended) == (1, True)


async def test_a_server_that_is_full_refuses_plain_reads_too() -> None:
    connection = Connection(one_row(), limit_concurrency=1)
    connection.give(READ)
    for _ in range(5):
        await asyncio.sleep(0)
    assert b"".join(connection.wire.writes).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], b"200 OK"),
        ([(b"accept", b"*/*"), (b"user-agent", b"curl")], b"200 OK"),
        ([(b"if-none-match", b"*")], b"304 Not Modified"),
        ([(b"headrace-position", b"{4}")], b"200 OK"),
        ([(b"headrace-position", b"{5}")], b"200 OK"),
    ],
)
async def test_what_needs_no_wait_and_no_explanation_is_answered_at_once(
    headers: list[tuple[bytes, bytes]], status: bytes
) -> None:
    service = one_row()
    named = placed(service, headers)
    answer = build_application(service).direct.answer(b"/balances/1", [HOST, *named], ())
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (b"/balances/1", []),
        (b"/balances/1", [HOST, HOST]),
        (b"/balances/1?a=b", [HOST]),
        (b"/balances/1#a", [HOST]),
        (b"/balances/one", [HOST]),
        (b"/balances/\xff", [HOST]),
        (b"/balances/", [HOST]),
        (b"/balances", [HOST]),
        (b"http://x/balances/1", [HOST]),
        (b"/balances/1", [HOST, (b"accept", b"text/event-stream")]),
        (b"/balances/1", [HOST, (b"content-length", b"0")]),
        (b"/balances/1", [HOST, (b"transfer-encoding", b"chunked")]),
        (b"/balances/1", [HOST, (b"if-none-match", b'"a"'), (b"if-none-match", b'"b"')]),
        (b"/balances/1", [HOST, (b"headrace-consistency", b"latest")]),
        (b"/balances/1", [HOST, (b"prefer", b"wait=1")]),
        (b"/balances/1", [HOST, (HOP, b"x")]),
        (b"/balances/1", [HOST, (b"headrace-position", b"no token")]),
        (b"/balances/1", [HOST, (b"headrace-position", b"{6}")]),
        (b"/balances/1", [HOST, (b"x-large", b"x" * 100_000)]),
        (b"/balances/" + b"1" * 100_000, [HOST]),
    ],
)
async def test_what_takes_more_than_a_look_is_left_to_the_application(
    url: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    service = one_row()
    named = placed(service, headers)
    assert build_application(service).direct.answer(url, named, ()) is None


@pytest.mark.parametrize("credentials", [[], [b"Bearer wrong"], [b"Basic secret"], [b"Bearer secret"] * 2])
async def test_without_its_one_valid_token_nothing_is_answered_at_once(credentials: list[bytes]) -> None:
    direct = build_application(one_row(Settings(http="127.0.0.1:0", tokens=(SECRET,)))).direct
    headers = [HOST, *((b"authorization", each) for each in credentials)]
    assert direct.answer(b"/balances/1", headers, ()) is None
    assert direct.answer(b"/balances/1", [HOST, (b"authorization", b"Bearer secret")], ()) is not None


async def test_a_partition_that_is_elsewhere_or_not_served_is_left_to_the_application() -> None:
    service = one_row()
    direct = build_application(service).direct
    service.owned[0].close()
    assert direct.answer(b"/balances/1", [HOST], ()) is None
    del service.owned[0]
    assert direct.answer(b"/balances/1", [HOST], ()) is None


async def test_with_position_cookies_every_answer_has_more_to_say() -> None:
    direct = build_application(one_row(Settings(http="127.0.0.1:0", http_position_cookie=True))).direct
    assert direct.answer(b"/balances/1", [HOST], ()) is None


async def test_reads_answered_at_once_are_counted_like_any_other() -> None:
    application = build_application(one_row())
    answered = application.direct.answer(b"/balances/1", [HOST], ())
    assert answered is not None
    (meter,) = (meter for _, meter in vars(application)["_reads"].values())
    assert meter.answers == {200: 1}
