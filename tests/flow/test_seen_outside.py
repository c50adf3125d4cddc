"""What routes, timers and tasks send says what they had seen: brought along, read, and sent before."""

from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.events.envelope import decode_envelope
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import Seen, partition_print, topic_print
from headrace.events.token import Token
from headrace.log.port import Append
from headrace.testing import Crash, Rebalance, harness
from headrace.testing.harness import Harness
from tests.flow.routed import COPIES, PLACE, Till, at, catalog, seen, stamps, token


@pytest.fixture
async def till() -> AsyncIterator[tuple[Till, Harness]]:
    till = Till()
    async with harness(till.app) as h:
        yield till, h


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
