"""Reads that ask for a position: they wait for the commit, and say so when it does not come."""

import pytest

from headrace.errors import Fenced
from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.http.application import build_application
from headrace.settings import Settings
from headrace.tables.view import ViewState
from tests.http.patient import LATEST, PATH, Waiting, at_least, settled
from tests.http.service import INPUT, client
from tests.http.stream import streaming


async def test_a_read_waits_for_what_its_token_names_and_is_answered_by_the_commit() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 3)
    async with world.asking(at_least(world.token(3))) as request:
        assert not request.done()
        world.put(1, 2)
        await settled()
        assert not request.done()
        world.put(2, 3)
        answer = await request
    assert (answer.status_code, answer.json()) == (200, {"points": 2})
    reached = Token.parse(answer.headers["Headrace-Position"])
    assert reached.covers(Token.parse(world.token(3)))
    assert "Headrace-Unproven" not in answer.headers


async def test_what_is_contained_already_costs_no_wait_and_no_question() -> None:
    world = Waiting()
    async with world.asking(at_least(world.token(1))) as request:
        assert (await request).status_code == 200
    assert world.service.cluster.questions == []
    assert world.clock.timers == 0


async def test_nothing_but_its_own_bound_is_armed_while_a_read_waits() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    async with world.asking(at_least(world.token(2))) as one, world.asking(LATEST) as other:
        assert world.clock.timers == 2
        questions = len(world.service.cluster.questions)
        world.clock.move_to(1.9)
        await settled()
        assert not one.done()
        assert not other.done()
        assert len(world.service.cluster.questions) == questions, "somebody polls"
        world.put(1, 2)
        await settled()
        assert one.done()
        assert other.done()
    assert world.clock.timers == 0
    assert len(world.service.waits.room) == 0


async def test_progress_over_no_events_answers_too() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 9)
    async with world.asking(at_least(world.token(9))) as request:
        world.view.advance(Position({world.place: 9}))
        assert (await request).json() == {"points": 0}


async def test_a_wait_that_is_in_vain_is_503_and_says_how_far_it_is() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5), Prefer="wait=0.5")) as request:
        world.put(1, 3)
        world.clock.move_to(0.49)
        await settled()
        assert not request.done()
        world.clock.move_to(0.5)
        answer = await request
    document = answer.json()
    assert (answer.status_code, document["error"]) == (503, "NotReached")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    assert document["missing"] == [f"{INPUT}/{world.view.partition}@5"]
    assert document["reached"] == answer.headers["Headrace-Position"] == world.token(3)
    assert "transaction" not in document["detail"]


async def test_latest_is_what_is_in_the_log_when_the_request_arrives() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 4)
    async with world.asking(LATEST) as request:
        assert not request.done()
        world.service.append(world.view.partition, 40)
        world.put(7, 4)
        answer = await request
    assert (answer.status_code, answer.json()) == (200, {"points": 7})


async def test_latest_of_a_quiet_topic_costs_no_wait() -> None:
    world = Waiting()
    async with world.asking(LATEST) as request:
        assert (await request).status_code == 200
    assert world.clock.passed_s == 0.0
    assert world.clock.timers == 0


async def test_a_transaction_that_is_in_the_way_is_named() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 6)
    world.service.cluster.open_at[world.place] = 3
    async with world.asking(LATEST) as request:
        world.put(1, 3)
        world.clock.move_to(2.0)
        answer = await request
    assert answer.status_code == 503
    assert f"a transaction that is open at {INPUT}/{world.view.partition}@3" in answer.json()["detail"]


async def test_token_and_latest_together_are_both_waited_for() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    async with world.asking(at_least(world.token(1), **LATEST)) as request:
        assert not request.done()
        world.put(1, 2)
        assert (await request).status_code == 200


async def test_eventual_answers_at_once_whatever_else_the_request_says() -> None:
    world = Waiting()
    async with world.asking(at_least(world.token(99), **{"Headrace-Consistency": "eventual"})) as request:
        assert (await request).status_code == 200
    assert world.service.cluster.questions == []


@pytest.mark.parametrize(
    ("prefer", "granted"),
    [
        ("wait=1", 1.0),
        ("wait=0.25", 0.25),
        ("respond-async, wait=1.5", 1.5),
        ('handling=lenient; x="a, wait=9", WAIT = "3"', 3.0),
        ("wait=5;x=y", 5.0),
        ("wait=4, wait=1", 4.0),
        ("wait=7200", 30.0),
    ],
)
async def test_a_preferred_wait_is_granted_up_to_a_bound_and_said_to_be(prefer: str, granted: float) -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    async with world.asking(at_least(world.token(2), Prefer=prefer)) as request:
        world.clock.move_to(granted - 0.01)
        await settled()
        assert not request.done()
        world.put(1, 2)
        answer = await request
    assert answer.headers["Preference-Applied"] == f"wait={granted:g}"


@pytest.mark.parametrize(
    "prefer", ["wait", "wait=", "wait=-1", "wait=inf", "wait=nan", "wait=1e9", "x=1", ","]
)
async def test_a_preference_that_cannot_be_understood_is_none(prefer: str) -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    async with world.asking(at_least(world.token(2), Prefer=prefer)) as request:
        world.clock.move_to(1.99)
        await settled()
        assert not request.done()
        world.clock.move_to(2.0)
        answer = await request
    assert answer.status_code == 503
    assert "Preference-Applied" not in answer.headers


async def test_who_does_not_want_to_wait_is_answered_at_once() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    async with world.asking(at_least(world.token(2), Prefer="wait=0")) as request:
        assert (await request).json()["error"] == "NotReached"
    assert world.clock.timers == 0


async def test_head_waits_as_get_does_and_the_tag_is_that_of_the_row_that_was_waited_for() -> None:
    world = Waiting()
    async with client(world.service) as http:
        before = (await http.get(PATH)).headers["etag"]
    for offset, method in ((2, "HEAD"), (3, "GET")):
        world.service.append(world.view.partition, offset)
        asked = at_least(world.token(offset), **{"If-None-Match": before})
        async with world.asking(asked, method=method) as request:
            assert not request.done()
            world.view.advance(Position({world.place: offset}))
            answer = await request
        assert (answer.status_code, answer.headers["etag"]) == (304, before)
        assert answer.headers["Headrace-Position"] == world.token(offset)


async def test_a_scan_waits_until_every_partition_contains_what_the_token_names_of_it() -> None:
    world = Waiting()
    asked = Position({TopicPartition(INPUT, partition): 5 for partition in (0, 2)})
    for place in asked:
        world.service.append(place.partition, 5)
    token = Token.of(asked, world.service.catalog).text()
    async with world.asking(at_least(token), "/balances") as request:
        for partition in (2, 0):
            assert not request.done()
            world.service.owned[partition].advance(world.service.position(partition, 5))
            await settled()
        answer = await request
    assert answer.status_code == 200
    assert Token.parse(answer.headers["Headrace-Position"]).covers(Token.parse(token))


async def test_a_scan_in_vain_says_how_far_all_of_it_is() -> None:
    world = Waiting()
    world.service.append(0, 5)
    async with world.asking(at_least(world.token(5, partition=0)), "/balances") as request:
        world.clock.move_to(2.0)
        answer = await request
    assert answer.status_code == 503
    assert answer.json()["missing"] == [f"{INPUT}/0@5"]
    assert Token.parse(answer.json()["reached"]).covers(Token.parse(world.token(1)))


async def test_the_first_row_of_a_stream_contains_what_was_asked_for() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 2)
    application = build_application(world.service)
    headers = [(b"headrace-position", world.token(2).encode())]
    async with streaming(application, PATH, headers=headers) as stream:
        await settled()
        assert stream.status == 0
        world.put(8, 2)
        event = await stream.event()
    assert (event.name, event.data, event.event_id) == ("row", {"points": 8}, world.token(2))


# --- what ends a wait


async def test_a_task_that_fails_ends_the_wait_at_once_and_is_named() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))) as request:
        world.put(1, 2)
        world.view.close(failure=Fenced("secret"))
        answer = await request
    document = answer.json()
    assert (answer.status_code, document["error"]) == (503, "TaskFailed")
    assert "Fenced" in document["detail"]
    assert "secret" not in answer.text
    assert answer.headers["Retry-After"] == "1"
    assert document["reached"] == answer.headers["Headrace-Position"] == world.token(2)
    assert world.clock.passed_s == 0.0


@pytest.mark.parametrize(
    ("state", "error"), [(ViewState.RESTORING, "StillRecovering"), (ViewState.CLOSED, "NotOwner")]
)
async def test_a_partition_that_goes_ends_the_wait_at_once(state: ViewState, error: str) -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))) as request:
        world.view.close(state)
        answer = await request
    assert (answer.status_code, answer.json()["error"]) == (503, error)
    assert answer.headers["Retry-After"] == "1"


async def test_a_worker_that_stops_sends_away_who_waits_and_who_comes_to_wait() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))) as request:
        world.service.waits.room.close()
        assert (await request).json()["error"] == "NotOwner"
    async with world.asking(at_least(world.token(5))) as request:
        assert (await request).status_code == 503
    async with world.asking(at_least(world.token(1))) as request:
        assert (await request).status_code == 200
    assert world.clock.timers == 0


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))):
        assert len(world.service.waits.room) == 1
    assert (len(world.service.waits.room), world.clock.timers) == (0, 0)


async def test_how_many_wait_is_a_metric() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))), world.asking(LATEST), client(world.service) as http:
        assert "headrace_reads_waiting 2.0" in (await http.get("/metrics")).text.splitlines()


async def test_no_more_than_so_many_wait_at_once() -> None:
    world = Waiting(Settings(http="127.0.0.1:0", read_waiters_max=1))
    world.service.append(world.view.partition, 5)
    async with world.asking(at_least(world.token(5))) as first:
        async with world.asking(at_least(world.token(4))) as second:
            answer = await second
        assert (answer.status_code, answer.json()["error"]) == (503, "TooManyWaiters")
        assert answer.headers["Retry-After"] == "1"
        world.put(1, 5)
        assert (await first).status_code == 200
    world.service.append(world.view.partition, 6)
    async with world.asking(at_least(world.token(6))) as third:
        assert not third.done(), "there is room again"
