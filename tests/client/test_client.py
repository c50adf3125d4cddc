"""`headrace.Client` keeps what its user has seen, writes once, and asks another worker where one fails."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

import headrace
from headrace.client.errand import Errand
from headrace.client.workers import Workers
from headrace.errors import ForeignToken, MalformedToken, UntrueToken
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import COMPONENTS_MAX
from headrace.events.token import Token
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from tests.client.plant import Plant, scripted
from tests.http.till import ONE, Till, application, until_settled
from tests.service import running

CATALOG = Catalog("cluster-1", {"a": "id-a", "b": "id-b"})
BUSY = httpx.Response(503, headers={"Retry-After": "0"})
FINE = httpx.Response(200, json={"ok": True})


def token(topic: str, offset: int, catalog: Catalog = CATALOG) -> str:
    return Token.of(Position({TopicPartition(topic, 0): offset}), catalog).text()


def told(position: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers={"Headrace-Position": position}, json={})


def refused(status: int, error: str) -> httpx.Response:
    headers = {"Content-Type": "application/problem+json"}
    return httpx.Response(status, headers=headers, json={"error": error, "detail": "of another cluster"})


def at(
    plant: Plant, *names: str, session: headrace.Session | None = None, patience_s: float = 30.0
) -> headrace.Client:
    urls = [f"http://{name}:6066" for name in names or plant.workers]
    return headrace.Client(*urls, session=session, patience_s=patience_s, transport=plant)


# --- the token


async def test_what_every_answer_tells_goes_along_with_the_next_request() -> None:
    plant = Plant({"w": scripted(told(token("a", 3)), told(token("b", 5), 404), told(token("a", 2)), FINE)})
    async with at(plant) as client:
        for _ in range(4):
            await client.get("/rows/1")
        sent = [request.headers.get("Headrace-Position") for request in plant.asked]
        assert sent[:2] == [None, token("a", 3)]
        both = Position({TopicPartition("a", 0): 3, TopicPartition("b", 0): 5})
        assert [Token.parse(text or "").located(CATALOG) for text in sent[2:]] == [both, both]
        assert client.position == sent[3]


async def test_services_share_what_their_user_has_seen_and_it_can_be_kept() -> None:
    plant = Plant({"shop": scripted(told(token("a", 3))), "bank": scripted(told(token("b", 5)))})
    async with at(plant, "shop") as shop, at(plant, "bank", session=shop.session) as bank:
        await shop.post("/buys", json=1)
        await bank.get("/accounts/1")
        kept = shop.position
        assert plant.asked[1].headers["Headrace-Position"] == token("a", 3)
        assert kept == bank.position
    async with headrace.Client(
        "http://bank:1", position=kept, transport=Plant({"bank": scripted(FINE)})
    ) as later:
        await later.get("/accounts/1")
        assert later.position == kept


async def test_a_position_that_the_caller_gives_is_added_to_what_was_seen() -> None:
    plant = Plant({"w": scripted(told(token("a", 3)), FINE)})
    async with at(plant) as client:
        await client.get("/rows/1")
        await client.get("/rows/1", headers={"Headrace-Position": token("b", 7)})
    sent = Token.parse(plant.asked[1].headers["Headrace-Position"]).located(CATALOG)
    assert sent == Position({TopicPartition("a", 0): 3, TopicPartition("b", 0): 7})


@pytest.mark.parametrize(
    ("status", "error"), [(409, ForeignToken), (409, UntrueToken), (400, MalformedToken)]
)
async def test_a_position_that_is_refused_is_a_named_error(status: int, error: type[Exception]) -> None:
    plant = Plant({"w": scripted(refused(status, error.__name__))})
    async with at(plant) as client:
        with pytest.raises(error, match="of another cluster"):
            await client.get("/rows/1")
    assert len(plant.asked) == 1


async def test_an_answer_of_another_cluster_is_a_named_error_until_the_user_forgets() -> None:
    elsewhere = told(token("a", 1, Catalog("cluster-2", {"a": "id-a"})))
    plant = Plant({"w": scripted(told(token("a", 3)), elsewhere)})
    async with at(plant) as client:
        await client.get("/rows/1")
        with pytest.raises(ForeignToken):
            await client.get("/rows/1")
        client.session.forget()
        await client.get("/rows/1")
        assert "Headrace-Position" not in plant.asked[2].headers


async def test_a_conflict_of_the_apps_own_is_an_answer() -> None:
    own = httpx.Response(409, json={"error": "ForeignToken"})
    async with at(Plant({"w": scripted(own)})) as client:
        assert (await client.post("/buys", json=1)).status_code == 409


def test_what_a_token_cannot_hold_is_not_dropped_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    session = headrace.Session()
    with caplog.at_level(logging.WARNING):
        for number in range(COMPONENTS_MAX + 1):
            seen = Position({TopicPartition("a", number): 1})
            session.saw(Token.of(seen, CATALOG).text())
    assert not session.is_whole
    assert Token.parse(session.position or "").seen.is_cut
    assert caplog.text.count("More was seen") == 1


# --- keys and attempts


async def test_every_write_has_a_key_of_its_own_which_is_the_same_on_every_attempt() -> None:
    plant = Plant({"w": scripted(httpx.ReadError("cut"), BUSY, FINE)})
    async with at(plant) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            await client.request(method, "/buys", content=b"body")
        await client.get("/rows/1")
    keys = [request.headers.get("Idempotency-Key") for request in plant.asked]
    assert len(set(keys[:3])) == 1
    assert len(set(keys[2:6])) == 4
    assert keys[6] is None
    assert {request.content for request in plant.asked[:6]} == {b"body"}


async def test_a_key_of_the_callers_own_is_kept() -> None:
    plant = Plant({"w": scripted(BUSY, FINE)})
    async with at(plant) as client:
        await client.post("/buys", headers={"Idempotency-Key": '"mine"'})
    assert [request.headers["Idempotency-Key"] for request in plant.asked] == ['"mine"', '"mine"']


async def test_a_body_that_is_made_while_it_is_sent_is_sent_whole_on_every_attempt() -> None:
    async def made() -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            yield part

    plant = Plant({"w": scripted(BUSY, FINE)})
    async with at(plant) as client:
        await client.post("/buys", content=made())
    assert [request.content for request in plant.asked] == [b"onetwo", b"onetwo"]


async def test_another_worker_is_asked_where_one_is_silent_or_busy() -> None:
    plant = Plant({"one": scripted(FINE), "two": scripted(BUSY, BUSY, FINE), "three": scripted(FINE)})
    plant.silent = {"one"}
    async with at(plant) as client:
        for _ in range(6):
            assert (await client.get("/rows/1")).status_code == 200
    assert plant.hosts.count("one") == 1, "who was silent just now is left alone"
    assert plant.hosts.count("three") >= 2


async def test_what_no_attempt_can_cure_is_not_tried_again() -> None:
    for answer in (httpx.Response(500), httpx.Response(503), httpx.Response(404)):
        plant = Plant({"one": scripted(answer), "two": scripted(answer)})
        async with at(plant) as client:
            assert (await client.post("/buys")).status_code == answer.status_code
        assert len(plant.asked) == 1


async def test_beyond_its_patience_it_gives_the_last_answer_or_error() -> None:
    later = httpx.Response(503, headers={"Retry-After": "60"})
    async with at(Plant({"one": scripted(later), "two": scripted(later)})) as client:
        assert (await client.get("/rows/1")).status_code == 503
    plant = Plant({"one": scripted(FINE)})
    plant.silent = {"one"}
    async with at(plant, patience_s=0.01) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/rows/1")


def test_waits_double_and_end_with_the_patience() -> None:
    request = httpx.Request("GET", "http://w/rows/1", content=b"")
    errand = Errand(request, headrace.Session(), Workers(["http://w"]), now_s=0.0, patience_s=10.0)
    now_s, waits = 0.0, list[float]()

    def fail_again() -> float:
        errand.next_request()
        return errand.failed(httpx.ConnectError("silent"), now_s)

    for _ in range(6):
        waits.append(fail_again())
        now_s += waits[-1]
    now_s = 9.5
    with pytest.raises(httpx.ConnectError):
        fail_again()
    assert waits[0] < 0.07
    assert max(waits) <= 1.2


async def test_a_redirect_elsewhere_is_not_told_what_the_user_has_seen() -> None:
    away = httpx.Response(
        307, headers={"Location": "http://elsewhere/buys", "Headrace-Position": token("a", 1)}
    )
    plant = Plant({"w": scripted(away), "elsewhere": scripted(FINE)})
    async with headrace.Client("http://w", transport=plant, follow_redirects=True) as client:
        assert (await client.post("/buys")).status_code == 200
    assert plant.hosts == ["w", "elsewhere"]
    assert not {"headrace-position", "idempotency-key"} & set(plant.asked[1].headers)


async def test_a_stream_is_handed_on_as_it_comes() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        async def lines() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            yield b"data: 2\n\n"

        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=lines())

    async with at(Plant({"w": httpx.MockTransport(answer)})) as client:
        async with client.stream("GET", "/rows/1") as response:
            assert [part async for part in response.aiter_bytes()] == [b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.parametrize("urls", [[], ["worker:6066"], ["http://w/?x=1"], ["http://one/a", "http://two/b"]])
def test_addresses_that_are_none_are_refused(urls: list[str]) -> None:
    with pytest.raises((TypeError, ValueError)):
        headrace.Client(*urls)


# --- against workers


async def test_a_write_whose_answer_is_lost_is_there_once() -> None:
    till, cluster = Till(), SimulatedCluster()
    here, there = SimulatedLog(cluster), SimulatedLog(cluster)
    async with running(till.app, log=here) as one, running(till.app, log=there) as two:
        for each in (one, two):
            await until_settled(each.runtime, 4)
        plant = Plant({"one": application(one.runtime), "two": application(two.runtime)})
        plant.swallowing = {"one"}
        async with at(plant) as client:
            answers = [await client.post("/buys", json=ONE) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {201}
    assert any("Idempotent-Replayed" in answer.headers for answer in answers)
    assert till.handled == len(await till.bought(here)) == 20


# --- without a loop


def test_the_client_without_a_loop_does_the_same() -> None:
    asked: list[httpx.Request] = []
    answers: list[Any] = [
        httpx.ConnectError("silent"),
        BUSY,
        told(token("a", 3)),
        refused(409, "UntrueToken"),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        said = answers[len(asked) - 1]
        if isinstance(said, Exception):
            raise said
        return cast(httpx.Response, said)

    with headrace.SyncClient("http://one", "http://two", transport=httpx.MockTransport(answer)) as client:
        assert client.post("/buys", json=1).status_code == 200
        assert client.position == token("a", 3)
        with pytest.raises(UntrueToken):
            client.get("/rows/1")
    assert {request.url.host for request in asked[:2]} == {"one", "two"}
    assert len({request.headers["Idempotency-Key"] for request in asked[:3]}) == 1
    assert asked[3].headers["Headrace-Position"] == token("a", 3)


def test_the_package_is_imported_without_httpx_and_says_what_the_client_needs() -> None:
    script = """
import sys
import headrace
assert "httpx" not in sys.modules
sys.modules["httpx"] = None
try:
    headrace.Client
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "headrace[client]" in done.stdout
