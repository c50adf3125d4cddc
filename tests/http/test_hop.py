"""Reads of rows that another worker owns: the same answer, over one hop."""

from tests.http.pair import pair


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
