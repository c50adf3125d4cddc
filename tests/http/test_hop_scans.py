"""Scans over all workers: the same page from whichever is asked, whole or refused."""

import asyncio
from typing import Any

import pytest

from headrace.events.token import Token
from headrace.flow.members import Peer
from headrace.http import part as parts
from headrace.settings import Settings
from headrace.tables.view import PartitionView
from tests.http.pair import BALANCES, Member, Pair, pair
from tests.http.stranger import GREETED, plain, stranger

KEYS = list(range(-20, 40))


async def every_page(two: Pair, *members: Member, **params: Any) -> list[int]:
    """The keys of all pages, each asked of the next worker in turn."""
    found: list[int] = []
    for turn in range(1_000):
        answer = await two.get(members[turn % len(members)], "/balances", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["cursor"] is None or page["rows"]
        found += [row["key"] for row in page["rows"]]
        if page["cursor"] is None:
            return found
        params["cursor"] = page["cursor"]
    raise AssertionError("the pages do not end")


async def test_a_page_has_the_rows_of_all_workers_in_key_order_whoever_is_asked() -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, {"of": key})
        from_first, from_second = [await two.get(m, "/balances") for m in (two.first, two.second)]
        assert from_first.content == from_second.content
        assert from_first.headers["content-type"] == "application/json"
        assert from_first.json() == {
            "rows": [{"key": key, "value": {"of": key}} for key in KEYS],
            "cursor": None,
        }


@pytest.mark.parametrize("limit", [1, 7, 59, 60])
async def test_pages_go_on_at_any_worker_where_they_ended_at_another(limit: int) -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, key)
        assert await every_page(two, two.first, two.second, limit=limit) == KEYS
        assert await every_page(two, two.second, limit=limit, start=-3, end=9) == list(range(-3, 9))


async def test_a_cursor_survives_that_partitions_move() -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, key)
        page = (await two.get(two.first, "/balances", params={"limit": 10})).json()
        moved = two.second.owned.pop(1)
        two.first.owned[1] = moved
        two.second.knows(two.first, 1)
        rest = await every_page(two, two.second, cursor=page["cursor"])
        assert [row["key"] for row in page["rows"]] + rest == KEYS


async def test_large_rows_make_pages_shorter_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES_MAX", 100)
    async with pair() as two:
        for key in KEYS:
            two.put(key, "x" * 40)
        assert await every_page(two, two.first, two.second, limit=50) == KEYS


async def test_the_position_of_a_page_covers_what_every_worker_has() -> None:
    async with pair() as two:
        here, there = two.key_at(two.first), two.key_at(two.second)
        two.put(here, 1, offset_next=3)
        two.put(there, 1, offset_next=9)
        whole = Token.parse((await two.get(two.first, "/balances")).headers["headrace-position"])
        for key in (here, there):
            row = await two.get(two.first, f"/balances/{key}")
            assert whole.covers(Token.parse(row.headers["headrace-position"]))


async def test_a_page_waits_at_every_worker_for_the_position_that_is_asked_for() -> None:
    async with pair() as two:
        there = two.key_at(two.second)
        view = two.put(there, 1, offset_next=1)
        two.append(view.partition, 2)
        token = Token.of(two.second.position(view.partition, 2), two.second.catalog).text()
        waiting = asyncio.create_task(
            two.get(two.first, "/balances", headers={"Headrace-Position": token, "Prefer": "wait=9"}),
            name="scan that waits",
        )
        await two.until_waiting(two.second)
        two.put(there, 2, offset_next=2)
        answer = await waiting
        assert [row["value"] for row in answer.json()["rows"]] == [2]
        assert answer.headers["preference-applied"] == "wait=9"


async def test_a_worker_that_restores_or_does_not_answer_makes_the_page_503_and_never_short() -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, key)
        served = two.second.owned[3]
        two.second.owned[3] = PartitionView("main", 3)
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "StillRecovering")
        del two.second.owned[3]
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "NotOwner")
        two.second.owned[3] = served
        assert len((await two.get(two.first, "/balances")).json()["rows"]) == len(KEYS)
        await two.second.server.stop(1.0)
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")
        assert answer.headers["retry-after"] == "1"
        two.first.peers.clear()
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "NotOwner")


async def test_many_pages_at_both_workers_do_not_wait_for_each_other() -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, key)
        async with asyncio.timeout(20):
            answers = await asyncio.gather(
                *(two.get(member, "/balances") for member in (two.first, two.second) for _ in range(40))
            )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1


async def test_what_is_wrong_with_a_query_is_said_without_asking_anybody() -> None:
    async with stranger() as it, pair() as two:
        two.first.peers = {number: Peer("w2", it.address, False) for number in (1, 3)}
        assert (await two.get(two.first, "/balances?start=seven")).status_code == 400
        assert it.connections == 0


@pytest.mark.parametrize(
    "body", [b"", b"\x92\xc3\x90", b'{"rows":[],"cursor":null}', b"\x92\xc2\x90" + b"more"]
)
async def test_what_is_no_part_of_the_page_is_503(body: bytes) -> None:
    token = b"headrace-position: " + b"AA"
    async with stranger(GREETED, plain(body, token)) as it, pair() as two:
        two.first.peers = {number: Peer("w2", it.address, False) for number in (1, 3)}
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")


async def test_a_part_that_is_larger_than_may_be_is_503() -> None:
    async with pair(settings=Settings(peer_answer_bytes_max=100)) as two:
        for key in KEYS:
            two.put(key, "x" * 40)
        answer = await two.get(two.first, "/balances")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")


async def test_a_client_that_names_partitions_gets_a_page_all_the_same() -> None:
    async with pair() as two:
        for key in KEYS:
            two.put(key, key)
        answer = await two.get(two.first, "/balances", headers={"Headrace-Partitions": "0"})
        assert len(answer.json()["rows"]) == len(KEYS)
        for value in ("", "x", "0,0", "4", "-1", "0;1"):
            headers = {"Headrace-Partitions": value, "Headrace-Hop": "1"}
            assert (await two.get(two.first, "/balances", headers=headers)).status_code == 400
        headers = {"Headrace-Partitions": "0,2", "Headrace-Hop": "1"}
        assert (await two.get(two.first, "/balances", headers=headers)).headers["content-type"] == (
            "application/vnd.headrace.part+msgpack"
        )
        assert (await two.get(two.first, "/balances", headers={"Headrace-Hop": "1"})).status_code == 503
        assert BALANCES.partitions == 4
