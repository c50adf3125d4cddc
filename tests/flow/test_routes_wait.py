"""Routes that wait for what whoever asks them has seen, before they read."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from headrace.errors import OutsideAgent
from headrace.events.seen import Seen
from headrace.settings import Settings
from headrace.testing import harness
from headrace.testing.harness import Harness
from tests.flow.routed import COPIES, PLACE, Till, apart, at, seen, stamps, token, turns


@pytest.fixture
async def till() -> AsyncIterator[tuple[Till, Harness]]:
    till = Till()
    async with harness(till.app) as h:
        yield till, h


async def test_a_route_waits_for_its_token_before_it_reads() -> None:
    async with apart() as world:
        asking = await world.ask("/surely/1", Headrace_Position=await world.write())
        assert not asking.done()
        world.worker.go_on()
        assert (await asking).json() == {"sum": 1, "unproven": []}


async def test_a_route_whose_token_is_not_reached_answers_503_with_the_position() -> None:
    async with apart() as world:
        written = await world.write()
        asking = await world.ask("/surely/1", Headrace_Position=written, Prefer="wait=1.5")
        # The log says neither whether the token is true nor what is in the way: each look at it is bounded.
        for _ in range(8):
            assert not asking.done() or world.h.clock.passed_s >= 1.5
            await world.h.advance(0.5)
            await turns()
        answer = await asking
        world.worker.go_on()
        assert (answer.status_code, answer.json()["error"]) == (503, "NotReached")
        assert answer.headers["Headrace-Position"] == token(world.h, {PLACE: 0})


async def test_a_route_waits_as_the_request_asks() -> None:
    async with apart() as world:
        await world.write()
        now = await world.ask("/surely/1", Headrace_Consistency="eventual")
        assert (await now).json()["sum"] == 0
        latest = await world.ask("/surely/1", Headrace_Consistency="latest")
        assert not latest.done()
        world.worker.go_on()
        assert (await latest).json()["sum"] == 1


async def test_what_nothing_proves_is_said_to_the_route(till: tuple[Till, Harness]) -> None:
    _, h = till
    await h.http.post("/copies/1")
    answer = await h.http.get("/surely/1", headers=at(token(h, {COPIES: 1})))
    assert answer.json() == {"sum": 0, "unproven": ["copies/0@1"]}


async def test_an_agent_does_not_wait_for_itself() -> None:
    till = Till()
    failed: list[str] = []

    @till.app.agent(till.copies)
    async def wait(events: headrace.Stream[int]) -> None:
        async for event in events.events():
            try:
                await till.app.reached(till.spent, event.key)
            except OutsideAgent as error:
                failed.append(error.next_step)

    async with harness(till.app) as h:
        await h.http.post("/copies/1")
    assert failed
    assert all("held back" in step for step in failed)


async def test_a_global_table_is_waited_for_at_every_worker() -> None:
    app = headrace.App("rates")
    changes: headrace.Topic[str, int] = app.topic("changes", key_type=str, value_type=int, partitions=2)
    rates: headrace.GlobalTable[str, int] = app.GlobalTable("rates", key_type=str, default=int)
    app.serve(rates, "/rates")

    @app.agent(changes, group="rates")
    async def note(events: headrace.Stream[int]) -> None:
        async for event in events.events():
            rates[event.key] = event.value

    @app.route("/changes/{key}", methods=["POST"])
    async def change(request: Request) -> Response:
        await changes.send(key=request.path_params["key"], value=7)
        return JSONResponse({})

    async with harness(app, workers=2) as h:
        writer, other = h.http_of(0), h.http_of(1)
        h.workers[1].stand_still()
        written = (await writer.post("/changes/eur")).headers["Headrace-Position"]
        asking = asyncio.create_task(other.get("/rates/eur", headers=at(written)), name="request")
        await turns()
        assert not asking.done()
        h.workers[1].go_on()
        answer = await asking
        assert (answer.status_code, answer.json()) == (200, 7)


async def test_a_browser_carries_its_position_from_route_to_read() -> None:
    async with apart(Settings(http_position_cookie=True)) as world:
        h = world.h
        cookie = f"headrace-position={await world.write()}"
        asking = await world.ask("/spent/1", Cookie=cookie)
        assert not asking.done()
        world.worker.go_on()
        assert (await asking).json() == 1
        answer = await h.http.post("/copies/1", headers={"Cookie": cookie})
        assert answer.headers["set-cookie"].startswith("headrace-position=")
        assert stamps(h)[0] == seen(h, {PLACE: 1})
        answer = await h.http.post("/copies/1", headers={"Cookie": "headrace-position=nonsense"})
        assert answer.status_code == 200
        assert stamps(h)[2] == Seen()
