"""A row as a stream: each commit that changed it, woken by that commit, and an end that has a name."""

import asyncio

from headrace.events.token import Token
from headrace.http.application import build_application
from headrace.settings import Settings
from headrace.tables.view import ViewState
from tests.http.service import Service, ask, served
from tests.http.stream import streaming

BALANCES = served("balances", int)
STREAM = (b"accept", b"text/event-stream")


async def test_the_first_event_is_the_row_as_of_now_and_each_change_follows() -> None:
    service = Service(BALANCES)
    service.put(BALANCES, 7, {"points": 1})
    async with streaming(build_application(service), "/balances/7") as stream:
        first = await stream.event()
        service.put(BALANCES, 7, {"points": 2}, offset_next=2)
        second = await stream.event()
    assert stream.headers[b"content-type"] == b"text/event-stream"
    assert (first.name, first.data) == ("row", {"points": 1})
    assert (second.name, second.data) == ("row", {"points": 2})


async def test_the_event_id_is_the_position_of_the_row() -> None:
    service = Service(BALANCES)
    view = service.put(BALANCES, 7, {"points": 1}, offset_next=41)
    async with streaming(build_application(service), "/balances/7") as stream:
        shown = await stream.event()
    assert Token.parse(shown.event_id).located(service.catalog) == view.position


async def test_a_commit_that_leaves_the_row_alone_sends_nothing() -> None:
    service = Service(BALANCES)
    view = service.put(BALANCES, 7, {"points": 1})
    neighbour = next(key for key in range(8, 99) if service.partition(BALANCES, key) == view.partition)
    async with streaming(build_application(service), "/balances/7") as stream:
        await stream.event()
        service.put(BALANCES, neighbour, {"points": 5}, offset_next=2)
        service.put(BALANCES, 7, {"points": 1}, offset_next=3)
        service.put(BALANCES, 7, {"points": 9}, offset_next=4)
        assert (await stream.event()).data == {"points": 9}


async def test_a_deleted_row_is_an_event_of_its_own_kind_and_so_is_one_that_never_was() -> None:
    service = Service(BALANCES)
    async with streaming(build_application(service), "/balances/7") as stream:
        assert (await stream.event()).name == "deleted"
        service.put(BALANCES, 7, {"points": 1})
        assert (await stream.event()).name == "row"
        service.put(BALANCES, 7, None, offset_next=2)
        assert (await stream.event()).name == "deleted"


async def test_a_slow_reader_gets_the_latest_row_and_nothing_piles_up() -> None:
    service = Service(BALANCES)
    service.put(BALANCES, 7, {"points": 0})
    async with streaming(build_application(service), "/balances/7") as stream:
        await stream.event()
        for points in range(1, 1_000):
            service.put(BALANCES, 7, {"points": points}, offset_next=points + 1)
            await asyncio.sleep(0)
        shown = [(await stream.event()).data["points"]]
        while shown[-1] != 999:
            shown.append((await stream.event()).data["points"])
    assert len(shown) <= 2, shown


async def test_a_quiet_stream_says_that_it_is_there() -> None:
    service = Service(BALANCES)
    async with streaming(build_application(service, heartbeat_s=0.001), "/balances/7") as stream:
        await stream.event()
        assert (await stream.part()).startswith(b":")


async def test_it_ends_by_name_when_the_partition_moves() -> None:
    service = Service(BALANCES)
    view = service.put(BALANCES, 7, {"points": 1})
    async with streaming(build_application(service), "/balances/7") as stream:
        await stream.event()
        view.close()
        last = await stream.event()
        await stream.part()
        assert stream.is_over
    assert last.name == "ended"
    assert last.data["error"] == "NotOwner"


async def test_it_lives_through_a_take_over_by_the_same_worker() -> None:
    service = Service(BALANCES)
    view = service.put(BALANCES, 7, {"points": 1})
    async with streaming(build_application(service), "/balances/7") as stream:
        await stream.event()
        store = view._serving_store()
        view.close(ViewState.RESTORING)
        view.serve(store, service.position(view.partition, 9))
        service.put(BALANCES, 7, {"points": 2}, offset_next=10)
        names = [(await stream.event()).data]
        while names[-1] != {"points": 2}:
            names.append((await stream.event()).data)
        assert names[-1] == {"points": 2}


async def test_it_ends_by_name_when_the_worker_stops_and_new_ones_are_refused() -> None:
    service = Service(BALANCES)
    service.put(BALANCES, 7, {"points": 1})
    application = build_application(service)
    async with streaming(application, "/balances/7") as stream:
        await stream.event()
        application.end_streams()
        last = await stream.event()
    assert (last.name, last.data["error"]) == ("ended", "WorkerStopping")
    async with streaming(application, "/balances/7") as refused:
        await refused.part()
        assert refused.status == 503


async def test_there_are_only_so_many_and_one_that_closes_makes_room() -> None:
    service = Service(BALANCES, settings=Settings(http_streams_max=1))
    application = build_application(service)
    async with streaming(application, "/balances/7") as first:
        await first.event()
        async with streaming(application, "/balances/8") as second:
            await second.part()
            assert second.status == 503
    async with streaming(application, "/balances/8") as third:
        await third.event()
        assert third.status == 200


async def test_what_cannot_be_read_cannot_be_streamed() -> None:
    service = Service(BALANCES)
    assert (await ask(service, b"/balances/seven", STREAM)).status == 400
    service.put(BALANCES, 7, {"points": 1}).close(ViewState.RESTORING)
    assert (await ask(service, b"/balances/7", STREAM)).status == 503
    del service.owned[service.partition(BALANCES, 7)]
    assert (await ask(service, b"/balances/7", STREAM)).status == 503


async def test_head_tells_the_kind_and_the_position_and_ends() -> None:
    service = Service(BALANCES)
    answer = await ask(service, b"/balances/7", STREAM, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert b"headrace-position" in answer.headers
