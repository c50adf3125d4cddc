"""Requests with an Idempotency-Key: handled once, answered as often as they are repeated."""

import asyncio
from pathlib import Path

import pytest

import headrace
from headrace.errors import DeclarationError
from headrace.http.idempotency import KEY_BYTES_MAX
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.simulated.log import SimulatedLog
from tests.flow.mortal import LastingEngine
from tests.http.till import ONE, TWO, Till, facts, key, post_again, worker
from tests.service import running


@pytest.fixture
async def till() -> Till:
    return Till()


async def test_a_repeat_is_given_the_first_answer_and_sends_nothing(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (_, http):
        first = await http.post("/buys", json=ONE, headers=key())
        again = await http.post("/buys", json=ONE, headers=key())
        other = await http.post("/buys", json=ONE, headers=key("other"))
    assert (first.status_code, first.headers["Location"]) == (201, "/buys/1")
    assert facts(again) == facts(first)
    assert again.headers["Headrace-Position"]
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert other.headers["Location"] == "/buys/2"
    assert await till.bought(log) == [100, 100]


async def test_a_word_names_a_request_as_its_quoted_form_does(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (_, http):
        for form in ('"8e03-978e"', "8e03-978e", ' "8e03-978e"\t'):
            await http.post("/buys", json=ONE, headers={"Idempotency-Key": form})
    assert till.handled == 1
    assert await till.bought(log) == [100]


@pytest.mark.parametrize(
    "value",
    ["", '""', '"open', 'a"b', "two words", '"a", "b"', "a;b=1, c", '"tab\t"', "x" * (KEY_BYTES_MAX + 1)],
)
async def test_what_is_no_key_is_refused_and_not_handled(till: Till, value: str) -> None:
    async with worker(till, SimulatedLog()) as (_, http):
        answer = await http.post("/buys", json=ONE, headers={"Idempotency-Key": value})
        longest = await http.post("/buys", json=ONE, headers=key("x" * KEY_BYTES_MAX))
    assert (answer.status_code, answer.json()["error"]) == (400, "MalformedKey")
    assert (longest.status_code, till.handled) == (201, 1)


async def test_two_keys_are_no_key(till: Till) -> None:
    async with worker(till, SimulatedLog()) as (_, http):
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        answer = await http.post("/buys", json=ONE, headers=headers)
    assert (answer.status_code, till.handled) == (400, 0)


async def test_a_key_is_not_taken_for_another_request(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (service, http):
        await http.post("/buys", json=ONE, headers=key())
        body = await http.post("/buys", json=TWO, headers=key())
        path = await http.post("/buys?as=refusal", json=ONE, headers=key())
        method = await http.put("/buys", json=ONE, headers=key())
        figures = service.runtime.figures_of_flow.requests
    for refused in (body, path, method):
        assert (refused.status_code, refused.json()["error"]) == (422, "KeyReused")
    assert (figures.recorded, figures.repeated, figures.refused) == (1, 0, 3)
    assert await till.bought(log) == [100]


async def test_a_repeat_waits_for_the_first_that_is_still_being_handled(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (service, http):
        till.may_answer.clear()
        first = post_again(http)
        await till.arrived.wait()
        again = post_again(http)
        refused = await http.post("/buys", json=TWO, headers=key())
        assert not again.done(), "it is answered only when the first one is"
        till.may_answer.set()
        assert facts(await again) == facts(await first)
        assert service.runtime.figures_of_flow.requests.repeated == 1
    assert (refused.status_code, till.handled) == (422, 1)
    assert await till.bought(log) == [100]


async def test_a_repeat_that_waits_for_a_failure_is_handled_itself(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (_, http):
        till.failures = 1
        till.may_answer.clear()
        first = post_again(http)
        await till.arrived.wait()
        again = post_again(http)
        till.may_answer.set()
        assert ((await first).status_code, (await again).status_code) == (500, 201)
    assert await till.bought(log) == [100]


@pytest.mark.parametrize(("how", "status"), [("raises", 500), ("answers", 503)])
async def test_of_an_endpoint_that_fails_nothing_is_recorded_or_sent(
    till: Till, how: str, status: int
) -> None:
    log = SimulatedLog()
    till.failures = 1
    async with worker(till, log) as (_, http):
        failed = await http.post(f"/buys?how={how}", json=ONE, headers=key())
        assert await till.bought(log) == []
        again = await http.post(f"/buys?how={how}", json=ONE, headers=key())
    assert (failed.status_code, again.status_code) == (status, 201)
    assert await till.bought(log) == [100]


async def test_a_refusal_is_an_answer_like_any_other(till: Till) -> None:
    async with worker(till, SimulatedLog()) as (_, http):
        first = await http.post("/buys?as=refusal", json=ONE, headers=key())
        again = await http.post("/buys?as=refusal", json=ONE, headers=key())
    assert first.status_code == 402
    assert facts(again) == facts(first)
    assert till.handled == 1


@pytest.mark.parametrize("kind", ["stream", "book"])
async def test_an_answer_that_cannot_be_kept_is_refused_with_what_was_sent(till: Till, kind: str) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (_, http):
        refused = await http.post(f"/buys?as={kind}", json=ONE, headers=key())
        assert (refused.status_code, refused.json()["error"]) == (501, "UnrecordableAnswer")
        assert await till.bought(log) == []
        assert (await http.post(f"/buys?as={kind}", json=ONE)).status_code == 200


async def test_a_read_may_carry_a_key_and_is_handled_every_time(till: Till) -> None:
    async with worker(till, SimulatedLog()) as (_, http):
        for _ in range(2):
            assert (await http.get("/buys", headers=key())).status_code == 201
    assert till.handled == 2


async def test_requests_that_wait_for_a_commit_share_the_next_one(till: Till) -> None:
    log = SimulatedLog()
    async with worker(till, log) as (service, http):
        posts = (http.post("/buys", json=ONE, headers=key(str(number))) for number in range(200))
        answers = await asyncio.gather(*posts)
        figures = service.runtime.figures_of_flow.requests
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["Location"] for answer in answers}) == 200
    assert figures.recorded == len(await till.bought(log)) == 200
    assert figures.transactions < 100


async def test_what_was_answered_is_known_after_a_restart_with_the_disk_and_without(till: Till) -> None:
    log, engine = SimulatedLog(), LastingEngine()
    async with worker(till, log, engine) as (service, http):
        first = await http.post("/buys", json=ONE, headers=key())
        await service.crash()
    async with worker(till, log, engine) as (service, http):
        assert facts(await http.post("/buys", json=ONE, headers=key())) == facts(first)
        await service.crash()
    async with worker(till, log, LastingEngine()) as (_, http):
        assert facts(await http.post("/buys", json=ONE, headers=key())) == facts(first)
    assert await till.bought(log) == [100]


async def test_the_embedded_log_keeps_the_promise_too(till: Till, tmp_path: Path) -> None:
    first = None
    for _ in range(2):
        log = EmbeddedLog(tmp_path / "log.db")
        async with worker(till, log) as (_, http):
            answer = await http.post("/buys", json=ONE, headers=key())
            first = first or facts(answer)
            assert facts(answer) == first
            assert await till.bought(log) == [100]
    assert till.handled == 1


# --- declarations


def test_names_that_recorded_requests_need_are_refused() -> None:
    taken = headrace.App("till")
    taken.topic("till.requests", value_type=bytes)
    grouped = headrace.App("till")
    topic = grouped.topic("buys", value_type=bytes, partitions=1)

    @grouped.agent(topic, group="requests")
    async def agent(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            pass

    for app in (taken, grouped):
        with pytest.raises(DeclarationError, match="requests"):
            asyncio.run(_run(app))


async def _run(app: headrace.App) -> None:
    async with running(app):
        pass


async def test_an_app_whose_routes_only_read_has_no_topic_of_requests() -> None:
    app = headrace.App("reader")
    app.route("/look")(Till()._buy)
    log = SimulatedLog()
    async with running(app, log=log):
        assert "reader.requests" not in log.cluster.topics
