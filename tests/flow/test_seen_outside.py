"""What routes, timers and tasks send says what they had seen: brought along, read, and sent before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from headrace.errors import OutsideAgent
from headrace.events.envelope import decode_envelope
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import Seen, partition_print, topic_print
from headrace.events.token import Token
from headrace.log.port import Append
from headrace.settings import Settings
from headrace.testing import Crash, Rebalance, harness
from headrace.testing.harness import Harness

PLACE, COPIES = TopicPartition("buys", 0), TopicPartition("copies", 0)


class Till:
    """A service whose routes read, send, and wait."""

    def __init__(self) -> None:
        self.app = app = headrace.App("till")
        self.buys: headrace.Topic[int, int] = app.topic("buys", key_type=int, value_type=int, partitions=1)
        self.copies: headrace.Topic[int, int] = app.topic(
            "copies", key_type=int, value_type=int, partitions=1
        )
        self.spent: headrace.Table[int, int] = app.Table("spent", key_type=int, default=int)
        app.serve(self.spent, "/spent")

        @app.agent(self.buys)
        async def add_up(events: headrace.Stream[int]) -> None:
            async for event in events.events():
                self.spent[event.key] += event.value

        @app.route("/buys/{key:int}", methods=["POST"])
        async def buy(request: Request) -> Response:
            await self.buys.send(key=request.path_params["key"], value=1)
            return JSONResponse({}, status_code=202)

        @app.route("/copies/{key:int}", methods=["POST"])
        async def copy(request: Request) -> Response:
            key = request.path_params["key"]
            await self.copies.send(key=key, value=0)
            await self.copies.send(key=key, value=self.spent[key])
            return JSONResponse({})

        @app.route("/sums/{key:int}")
        async def look(request: Request) -> Response:
            return JSONResponse(self.spent[request.path_params["key"]])

        @app.route("/surely/{key:int}")
        async def look_surely(request: Request) -> Response:
            key = request.path_params["key"]
            unproven = await app.reached(self.spent, key)
            return JSONResponse({"sum": self.spent[key], "unproven": list(unproven)})

        @app.route("/nothing", methods=["GET", "POST"])
        async def nothing(_: Request) -> Response:
            return JSONResponse({})


def front() -> headrace.App:
    """Another service, which sends to the till's input."""
    app = headrace.App("front")
    buys: headrace.Topic[int, int] = app.topic("buys", key_type=int, value_type=int, partitions=1)

    @app.route("/buys/{key:int}", methods=["POST"])
    async def buy(request: Request) -> Response:
        await buys.send(key=request.path_params["key"], value=1)
        return JSONResponse({}, status_code=202)

    return app


async def turns() -> None:
    """Let a request go on as far as it gets."""
    for _ in range(20):
        await asyncio.sleep(0)


class Apart:
    """The till standing still, and what was written meanwhile by way of the other service."""

    def __init__(self, h: Harness, front: headrace.App) -> None:
        self.h = h
        self._front = front
        (self.worker,) = h.workers
        self.worker.stand_still()

    async def write(self) -> str:
        """The position of a purchase that the till has not handled."""
        return (await self.h[self._front].http.post("/buys/1")).headers["Headrace-Position"]

    async def ask(self, path: str, **headers: str) -> "asyncio.Task[httpx.Response]":
        """A request that is under way to the till, as far as it gets."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        asking = asyncio.create_task(self.h.http.get(path, headers=named), name="request")
        await self.h.quiet()
        return asking


@asynccontextmanager
async def apart(settings: Settings | None = None) -> AsyncIterator[Apart]:
    till, other = Till(), front()
    async with harness(till.app, other, settings=settings) as h:
        yield Apart(h, other)


@pytest.fixture
async def till() -> AsyncIterator[tuple[Till, Harness]]:
    till = Till()
    async with harness(till.app) as h:
        yield till, h


def catalog(h: Harness) -> Catalog:
    return h.workers[0].runtime.catalog


def token(h: Harness, offsets: dict[TopicPartition, int]) -> str:
    return Token.of(Position(offsets), catalog(h)).text()


def stamps(h: Harness, place: TopicPartition = COPIES) -> list[Seen]:
    """What the senders of a partition's events had seen."""
    found = []
    for record in h.log.records[place]:
        envelope = decode_envelope(record.headers)
        assert envelope is not None
        found.append(Seen.decode(envelope.stamp))
    return found


def seen(h: Harness, offsets: dict[TopicPartition, int]) -> Seen:
    return catalog(h).seen(Position(offsets))


def at(headers: str) -> dict[str, str]:
    return {"Headrace-Position": headers}


async def test_a_route_that_has_seen_nothing_stamps_nothing(till: tuple[Till, Harness]) -> None:
    _, h = till
    answer = await h.http.post("/buys/1")
    (envelope,) = [decode_envelope(record.headers) for record in h.log.records[PLACE]]
    assert envelope is not None
    assert envelope.stamp == b""
    assert answer.headers["Headrace-Position"] == token(h, {PLACE: 1})
    assert "Headrace-Position" not in (await h.http.get("/nothing")).headers


async def test_what_a_request_brings_along_is_in_the_stamp_and_in_the_answer(
    till: tuple[Till, Harness],
) -> None:
    _, h = till
    first = (await h.http.post("/buys/1")).headers["Headrace-Position"]
    answer = await h.http.post("/buys/2", headers=at(first))
    assert stamps(h, PLACE)[1] == seen(h, {PLACE: 1})
    end = h.log.partition(PLACE).end
    assert answer.headers["Headrace-Position"] == token(h, {PLACE: end - 1})
    answer = await h.http.get("/nothing", headers=at(first))
    assert answer.headers["Headrace-Position"] == first


async def test_what_a_route_reads_is_in_the_stamp_of_what_it_sends_after_it(
    till: tuple[Till, Harness],
) -> None:
    _, h = till
    await h.http.post("/buys/1")
    end = h.log.partition(PLACE).end
    answer = await h.http.post("/copies/1")
    assert stamps(h) == [Seen(), seen(h, {PLACE: end})]
    assert answer.headers["Headrace-Position"] == token(h, {PLACE: end, COPIES: 2})


async def test_a_route_that_only_reads_says_what_it_has_read(till: tuple[Till, Harness]) -> None:
    _, h = till
    await h.http.post("/buys/1")
    answer = await h.http.get("/sums/1")
    assert answer.json() == 1
    row = await h.http.get("/spent/1")
    assert answer.headers["Headrace-Position"] == row.headers["Headrace-Position"]


async def test_a_token_that_is_not_true_is_refused_before_the_route_runs(till: tuple[Till, Harness]) -> None:
    _, h = till
    refused = {
        token(h, {PLACE: 2**62}): 409,
        token(h, {TopicPartition("buys", 9): 1}): 409,
        Token.of(Position({PLACE: 0}), Catalog("other", {"buys": "x"})).text(): 409,
        "nonsense": 400,
    }
    for text, status in refused.items():
        for method, path in (("POST", "/buys/1"), ("GET", "/nothing")):
            answer = await h.http.request(method, path, headers=at(text))
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
    assert PLACE not in h.log.records, "nothing was sent"


async def test_what_cannot_be_verified_is_left_out_of_the_stamp_which_says_so(
    till: tuple[Till, Harness],
) -> None:
    _, h = till
    await h.http.post("/buys/1")
    unheard = partition_print(topic_print("unheard", "of"), 3)
    known = seen(h, {PLACE: 1})
    brought = Token(Token.nothing(catalog(h)).cluster, known.merge(Seen({unheard: 5})))
    answer = await h.http.post("/buys/1", headers=at(brought.text()))
    assert stamps(h, PLACE)[1] == Seen(known, is_cut=True)
    assert Token.parse(answer.headers["Headrace-Position"]).covers(brought), "the client keeps all of it"


async def test_what_is_sent_in_a_scope_inside_of_a_route_counts_as_seen_by_the_route() -> None:
    till = Till()

    @till.app.route("/both/{key:int}", methods=["POST"])
    async def both(request: Request) -> Response:
        assert till.spent[1] == 1
        async with till.app.sending():
            await till.copies.send(key=1, value=1)
        await till.copies.send(key=1, value=2)
        return JSONResponse({})

    async with harness(till.app) as h:
        await h.http.post("/buys/1")
        end = h.log.partition(PLACE).end
        answer = await h.http.post("/both/1")
        assert stamps(h) == [seen(h, {PLACE: end}), seen(h, {PLACE: end, COPIES: 1})]
        assert Token.parse(answer.headers["Headrace-Position"]).seen.covers(seen(h, {PLACE: end, COPIES: 3}))


async def test_timers_and_tasks_stamp_what_they_have_read_and_tasks_what_they_have_sent() -> None:
    till = Till()

    @till.app.timer(5.0)
    async def tick() -> None:
        await till.copies.send(key=1, value=till.spent[1])

    @till.app.task
    async def begin() -> None:
        await till.buys.send(key=1, value=5)
        await till.copies.send(key=1, value=0)
        await till.app.reached(till.spent, 1)
        assert till.spent[1] == 5
        await till.copies.send(key=1, value=till.spent[1])

    async with harness(till.app) as h:
        end = h.log.partition(PLACE).end
        first, second = stamps(h)
        assert first == seen(h, {PLACE: 1})
        assert second.covers(seen(h, {PLACE: end, COPIES: 1}))
        await h.advance(5.0)
        assert stamps(h)[2] == seen(h, {PLACE: end})


# --- a route that waits


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


# --- tokens outlive what they were made by


async def test_a_token_outlives_the_store_and_the_worker_it_was_made_by(till: tuple[Till, Harness]) -> None:
    _, h = till
    written = (await h.http.post("/buys/1")).headers["Headrace-Position"]
    for story in ([Crash(keeps_store=False)], [Rebalance()]):
        await h.run(story)
        answer = await h.http.get("/spent/1", headers=at(written))
        assert (answer.status_code, answer.json()) == (200, 1)
        assert "Headrace-Unproven" not in answer.headers
        assert Token.parse(answer.headers["Headrace-Position"]).covers(Token.parse(written))
        written = (await h.http.post("/nothing", headers=at(written))).headers["Headrace-Position"]


async def test_a_token_outlives_the_move_of_its_partition_to_another_worker(
    till: tuple[Till, Harness],
) -> None:
    _, h = till
    written = (await h.http.post("/buys/1")).headers["Headrace-Position"]
    await h.join()
    other = h.http_of(1)
    await h.leave(worker=0)
    answer = await other.get("/spent/1", headers=at(written))
    assert (answer.status_code, answer.json()) == (200, 1)


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


# --- the position advances over everything


async def test_a_wait_ends_by_progress_over_what_is_no_event(till: tuple[Till, Harness]) -> None:
    service, h = till
    writer = await h.workers[0].new_log().writer("till of others")
    # Filtered: nothing is written. Dead-lettered: nobody can read it. The markers are offsets, too.
    for value in (b"0", b"not a number", b"7"):
        await writer.commit([Append("buys", 0, [(b"1", value, (), 0)])])
        latest = await h.http.get("/spent/1", headers={"Headrace-Consistency": "latest"})
        assert latest.status_code == 200
        reached = Token.parse(latest.headers["Headrace-Position"]).located(catalog(h))
        assert reached[PLACE] == h.log.partition(PLACE).end
    h.log.partition(PLACE).mark()  # a transaction that was aborted leaves nothing but its marker
    latest = await h.http.get("/spent/1", headers={"Headrace-Consistency": "latest"})
    assert (latest.status_code, latest.json()) == (200, 7)
    assert len(h.dead_letters()) == 1
    assert service.app.current is not None
    await writer.close()
