"""Reads of rows that another worker owns: the same answer, over one hop."""

import asyncio

from headrace.settings import Settings
from tests.http.pair import PATIENCE_S, Pair, pair


async def test_a_row_of_another_worker_reads_as_it_does_there() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.put(key, {"spend": 7}, offset_next=5)
        there = await two.get(two.second, f"/balances/{key}")
        here = await two.get(two.first, f"/balances/{key}")
        assert here.status_code == there.status_code == 200
        assert here.json() == {"spend": 7}
        for name in ("etag", "headrace-position", "content-type", "cache-control", "content-length"):
            assert here.headers[name] == there.headers[name]


async def test_a_row_that_no_partition_has_is_404_from_anywhere() -> None:
    async with pair() as two:
        answer = await two.get(two.first, f"/balances/{two.key_at(two.second)}")
        assert answer.status_code == 404
        assert "headrace-position" in answer.headers


async def test_a_row_that_is_known_already_is_304_from_anywhere() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.put(key, 1)
        etag = (await two.get(two.first, f"/balances/{key}")).headers["etag"]
        answer = await two.get(two.first, f"/balances/{key}", headers={"If-None-Match": etag})
        assert (answer.status_code, answer.content) == (304, b"")


async def test_head_tells_what_get_would_send() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.put(key, {"spend": 7})
        url = f"http://{two.first.reached_at}/balances/{key}"
        answer = await two.client.head(url)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(b'{"spend":7}'))
        assert (await two.client.get(url)).json() == {"spend": 7}


async def test_a_row_of_another_worker_streams_each_commit_that_changes_it() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        view = two.put(key, 1)
        async with two.stream(two.first, f"/balances/{key}") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            assert "headrace-position" in stream.headers
            assert await stream.event() == ("row", 1)
            two.put(key, 2, offset_next=2)
            assert await stream.event() == ("row", 2)
            view.close()
            assert (await stream.event())[0] == "ended"
            assert await stream.is_over()


async def test_a_stream_ends_by_name_when_the_owner_stops() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        async with two.stream(two.first, f"/balances/{key}") as stream:
            assert await stream.event() == ("deleted", None)
            await two.second.server.stop(1.0)
            name, problem = await stream.event()
            assert (name, problem["error"]) == ("ended", "WorkerStopping")


async def test_a_stream_ends_by_name_when_this_worker_stops() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        async with two.stream(two.first, f"/balances/{key}") as stream:
            assert await stream.event() == ("deleted", None)
            stopping = asyncio.create_task(two.first.server.stop(1.0), name="stop")
            name, problem = await stream.event()
            assert (name, problem["error"]) == ("ended", "WorkerStopping")
            await stopping


async def test_a_client_that_leaves_a_stream_frees_its_place_at_both_workers() -> None:
    async with pair(settings=Settings(http_streams_max=1)) as two:
        key = two.key_at(two.second)
        for _ in range(3):
            async with two.stream(two.first, f"/balances/{key}") as stream:
                assert await stream.event() == ("deleted", None)
            async with asyncio.timeout(PATIENCE_S):
                # Each answer is awaited: the place is free once the workers have heard of the end.
                while (await _status_of_stream(two, key)) == 503:
                    pass


async def _status_of_stream(two: Pair, key: int) -> int:
    async with two.stream(two.first, f"/balances/{key}") as stream:
        return stream.status_code


async def test_a_stream_of_a_key_that_is_none_is_refused_where_it_is_asked_for() -> None:
    async with pair() as two:
        async with two.stream(two.first, "/balances/seven") as stream:
            assert stream.status_code == 400
