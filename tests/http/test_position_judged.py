"""Positions that requests ask for: which are waited for, refused, or said to be unproven."""

import asyncio

import pytest

from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import Seen, partition_print, topic_print
from headrace.events.token import TOKEN_BYTES_MAX, Token
from headrace.log.port import TopicSpec
from tests.http.patient import LATEST, PATH, Waiting, at_least, settled
from tests.http.service import INPUT, client


async def test_a_token_of_another_cluster_is_409() -> None:
    world = Waiting()
    other = Catalog("another", dict(world.service.catalog.topic_ids))
    token = Token.of(Position({world.place: 1}), other).text()
    async with world.asking(at_least(token)) as request:
        answer = await request
    assert (answer.status_code, answer.json()["error"]) == (409, "ForeignToken")


@pytest.mark.parametrize("topic", [INPUT, "out"])
async def test_a_token_of_a_topic_that_was_recreated_is_409(topic: str) -> None:
    world = Waiting()
    before = Catalog(world.service.catalog.cluster_id, {topic: "what it was"})
    token = Token.of(Position({TopicPartition(topic, 0): 1}), before).text()
    async with world.asking(at_least(token)) as request:
        answer = await request
    assert (answer.status_code, answer.json()["error"]) == (409, "ForeignToken")


@pytest.mark.parametrize(
    ("topic", "partition", "offset"),
    [(INPUT, None, 2), (INPUT, None, 2**62), (INPUT, 3, 7), (INPUT, 77, 1), ("out", 0, 1), ("out", 9, 1)],
)
async def test_a_token_that_names_what_is_not_in_the_log_is_409_and_nobody_waits(
    topic: str, partition: int | None, offset: int
) -> None:
    world = Waiting()
    async with world.asking(at_least(world.token(offset, topic=topic, partition=partition))) as request:
        answer = await request
    assert (answer.status_code, answer.json()["error"]) == (409, "UntrueToken")
    assert f"@{offset}" in answer.json()["detail"]
    assert world.clock.passed_s == 0.0


async def test_who_asks_the_same_at_the_same_time_asks_the_log_together() -> None:
    world = Waiting()
    world.service.append(world.view.partition, 5)
    async with client(world.service) as http, asyncio.TaskGroup() as asking:
        requests = [
            asking.create_task(http.get(PATH, headers=at_least(world.token(2 + at % 4))), name="request")
            for at in range(40)
        ]
        await settled()
        assert len(world.service.cluster.questions) <= 2
        world.put(1, 5)
    assert {request.result().status_code for request in requests} == {200}


async def test_what_the_input_is_known_to_reach_is_not_asked() -> None:
    world = Waiting()
    world.view.input_ends[world.place] = 5
    async with world.asking(at_least(world.token(5))) as request:
        assert not request.done()
        world.put(1, 5)
        assert (await request).status_code == 200
    assert world.service.cluster.questions == []


async def test_a_token_without_use_here_is_answered_and_what_is_not_proven_is_said() -> None:
    world = Waiting()
    world.service.append(0, 9, topic="out")
    async with world.asking(at_least(world.token(9, topic="out", partition=0))) as request:
        answer = await request
    assert answer.status_code == 200
    assert answer.headers["Headrace-Unproven"] == "out/0@9"


async def test_what_the_stamps_of_the_rows_tell_proves_a_component_of_another_topic() -> None:
    world = Waiting()
    catalog = world.service.catalog
    world.service.append(0, 9, topic="out")
    for seen, unproven in ((8, "out/0@9"), (9, None), (10, None)):
        told = catalog.seen(Position({TopicPartition("out", 0): seen}))
        world.view.publish({}, world.view.position, told)
        async with world.asking(at_least(world.token(9, topic="out", partition=0))) as request:
            answer = await request
        assert (answer.status_code, answer.headers.get("Headrace-Unproven")) == (200, unproven)
        reached = Token.parse(answer.headers["Headrace-Position"])
        assert reached.seen == catalog.seen(world.view.position).merge(told)


async def test_a_scan_is_proven_only_by_all_of_its_partitions() -> None:
    world = Waiting()
    world.service.append(0, 9, topic="out")
    told = world.service.catalog.seen(Position({TopicPartition("out", 0): 9}))
    views = [*world.service.owned.values()]
    for view in views:
        async with world.asking(at_least(world.token(9, topic="out", partition=0)), "/balances") as request:
            assert (await request).headers["Headrace-Unproven"] == "out/0@9"
        view.publish({}, view.position, told)
    async with world.asking(at_least(world.token(9, topic="out", partition=0)), "/balances") as request:
        assert "Headrace-Unproven" not in (await request).headers


async def test_other_partitions_of_the_same_input_say_nothing_of_the_row() -> None:
    world = Waiting()
    other = (world.view.partition + 1) % 4
    world.service.append(other, 9)
    async with world.asking(at_least(world.token(9, partition=other))) as request:
        answer = await request
    assert answer.status_code == 200
    assert "Headrace-Unproven" not in answer.headers


async def test_a_topic_that_nobody_knows_is_unproven_in_hex() -> None:
    world = Waiting()
    unheard = topic_print("unheard", "of")
    token = Token(Token.nothing(world.service.catalog).cluster, Seen({partition_print(unheard, 3): 5}))
    async with world.asking(at_least(token.text())) as request:
        answer = await request
    assert (answer.status_code, answer.headers["Headrace-Unproven"]) == (200, f"{unheard.hex()}/3@5")


async def test_a_topic_that_was_made_since_is_looked_up_by_name() -> None:
    world = Waiting()
    info = world.service.cluster.provision([TopicSpec(name="news", partitions=1)])["news"]
    world.service.append(0, 5, topic="news")
    seen = Seen({partition_print(topic_print("news", info.topic_id), 0): 5})
    token = Token(Token.nothing(world.service.catalog).cluster, seen).text()
    async with world.asking(at_least(token)) as request:
        assert (await request).headers["Headrace-Unproven"] == "news/0@5"


async def test_that_a_token_was_cut_is_said() -> None:
    world = Waiting()
    seen = world.service.catalog.seen(world.view.position)
    token = Token(Token.nothing(world.service.catalog).cluster, Seen(seen, is_cut=True)).text()
    async with world.asking(at_least(token)) as request:
        assert (await request).headers["Headrace-Unproven"] == "cut"


@pytest.mark.parametrize(
    "text", ["", "AQ", "Ag", "!!", "a b", "A" * (TOKEN_BYTES_MAX + 1), "é", "AgAAAA", "0" * 64]
)
async def test_what_is_no_token_is_400(text: str) -> None:
    world = Waiting()
    async with client(world.service) as http:
        for path in (PATH, "/balances"):
            answer = await http.get(path, headers={b"Headrace-Position": text.encode("latin-1")})
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_log_that_does_not_answer_spoils_no_read_that_can_do_without() -> None:
    world = Waiting()

    world.service.append(0, 9, topic="out")
    world.service.cluster.is_down = True
    async with world.asking(at_least(world.token(9, topic="out", partition=0))) as request:
        answer = await request
    assert (answer.status_code, answer.headers["Headrace-Unproven"]) == (200, "out/0@9")
    async with world.asking(LATEST) as request:
        assert (await request).status_code == 503
