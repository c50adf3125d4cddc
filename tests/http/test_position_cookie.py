"""The position in a cookie: browsers read their own writes, and never meet an error because of it."""

import httpx
import pytest

from headrace.events.position import Catalog, Position
from headrace.events.token import Token
from headrace.settings import Settings
from tests.http.patient import PATH, Waiting, at_least
from tests.http.service import INPUT

COOKIES = Settings(http="127.0.0.1:0", http_position_cookie=True)


def cookie(answer: httpx.Response) -> Token:
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == "headrace-position"
    return Token.parse(value)


async def test_without_the_setting_there_is_no_cookie_and_none_is_looked_at() -> None:
    world = Waiting()
    async with world.asking({"Cookie": f"headrace-position={world.token(99)}"}) as request:
        answer = await request
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


async def test_a_browser_reads_what_its_cookie_names() -> None:
    world = Waiting(COOKIES)
    async with world.asking({}) as request:
        first = await request
    assert first.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert cookie(first) == Token.parse(first.headers["Headrace-Position"])
    world.service.append(world.view.partition, 3)
    async with world.asking({"Cookie": f"a=b; headrace-position={world.token(3)}; c=d"}) as request:
        assert not request.done()
        world.put(5, 3)
        answer = await request
    assert answer.json() == {"points": 5}
    assert "set-cookie" not in answer.headers, "there is no news in it"


async def test_a_cookie_grows_by_what_is_read() -> None:
    world = Waiting(COOKIES)
    world.service.append(0, 4, topic="out")
    brought = world.token(4, topic="out", partition=0)
    async with world.asking({"Cookie": f"headrace-position={brought}"}) as request:
        answer = await request
    assert cookie(answer).covers(Token.parse(brought))
    assert cookie(answer).covers(Token.parse(world.token(1)))


@pytest.mark.parametrize("kind", ["malformed", "foreign", "recreated", "untrue"])
async def test_a_cookie_that_leads_nowhere_is_dropped(kind: str) -> None:
    world = Waiting(COOKIES)
    cluster = world.service.catalog.cluster_id
    text = {
        "malformed": "AQAQ",
        "foreign": Token.of(Position({world.place: 1}), Catalog("x", {INPUT: "y"})).text(),
        "recreated": Token.of(Position({world.place: 1}), Catalog(cluster, {INPUT: "y"})).text(),
        "untrue": world.token(2**62),
    }[kind]
    for path in (PATH, "/balances"):
        async with world.asking({"Cookie": f"headrace-position={text}"}, path) as request:
            answer = await request
        assert answer.status_code == 200
        assert cookie(answer) == Token.parse(answer.headers["Headrace-Position"])


async def test_a_header_wins_over_the_cookie() -> None:
    world = Waiting(COOKIES)
    headers = at_least(world.token(1), Cookie=f"headrace-position={world.token(99)}")
    async with world.asking(headers) as request:
        assert (await request).status_code == 200
