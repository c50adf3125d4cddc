"""The JavaScript of docs/howto/clients.md, in a real browser: it does what `headrace.Client` does."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headrace.events.seen import COMPONENTS_MAX, Seen, name_print, partition_print
from headrace.events.token import Token
from headrace.log.simulated.log import SimulatedLog
from tests.browser_fixture import Browser
from tests.http.till import Till
from tests.service import Service, running

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
SCRIPT = (HOWTO / "headrace.js").read_text("utf-8")
NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""

RUN = """
    const [code, body, given, done] = arguments;
    const url = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
    const Body = Object.getPrototypeOf(async () => {}).constructor;
    import(url).then((headrace) => new Body("headrace", "given", body)(headrace, given))
        .then(done, (error) => done({error: String(error)}));
"""


async def run(browser: Browser, body: str, given: Any = None) -> Any:
    """What this function body gives back, with the module as `headrace`."""
    return await asyncio.to_thread(browser.driver.execute_async_script, RUN, SCRIPT, body, given)


@asynccontextmanager
async def till_in(browser: Browser) -> AsyncIterator[tuple[Till, Service]]:
    """A running till, and the browser on a page of its server."""
    till = Till()
    async with running(till.app, log=SimulatedLog()) as service:
        host, port = service.runtime.address[:2]
        await asyncio.to_thread(browser.driver.get, f"http://{host}:{port}/livez")
        yield till, service
        await asyncio.to_thread(browser.driver.get, "about:blank")


def test_the_page_shows_the_file_and_it_has_forty_lines() -> None:
    blocks = re.findall(r"^```js\n(.*?)^```$", (HOWTO / "clients.md").read_text("utf-8"), re.M | re.S)
    assert blocks[0] == SCRIPT
    assert SCRIPT.count("\n") == 40


async def test_a_write_is_tried_elsewhere_under_its_key_and_its_position_is_kept(
    browser: Browser,
) -> None:
    async with till_in(browser) as (till, service):
        told = await run(
            browser,
            """
            const user = {}, shop = headrace.client([given, ""], user), bank = headrace.client([""], user);
            const options = {method: "POST", body: JSON.stringify({who: 1, cents: 100})};
            const first = await shop("/buys", options), after = user.position;
            const second = await bank("/buys", {...options, headers: {"Idempotency-Key": "mine"}});
            const again = await bank("/buys", {...options, headers: {"Idempotency-Key": "mine"}});
            const place = (answer) => answer.headers.get("Location");
            return [first.status, place(second) === place(again), after, user.position];
            """,
            NOBODY,
        )
        assert await till.bought(service.log) == [100, 100]
        first, is_same, after, position = told
        assert (first, is_same) == (201, True)
        assert Token.parse(position).covers(Token.parse(after))
        assert Token.parse(position).located(service.runtime.catalog)


async def test_a_busy_service_is_asked_again_and_one_that_never_answers_is_given_up(browser: Browser) -> None:
    async with till_in(browser) as (till, service):
        till.failures = 2
        told = await run(
            browser,
            """
            const keys = [], real = window.fetch;
            window.fetch = async (url, options) => {
                keys.push(options.headers.get("Idempotency-Key"));
                const answer = await real(url, options);
                if (answer.status !== 503) return answer;
                return new Response("", {status: 503, headers: {"Retry-After": "0"}});
            };
            const options = {method: "POST", body: JSON.stringify({who: 1, cents: 100})};
            const answer = await headrace.client([""])("/buys?how=answers", options);
            window.fetch = real;
            const patience_s = 0.05, nobody = headrace.client([given], {}, patience_s);
            return [answer.status, keys, await nobody("/buys", options).catch((error) => error.name)];
            """,
            NOBODY,
        )
        status, keys, lost = told
        assert (status, len(keys), len(set(keys)), lost) == (201, 3, 1, "TypeError")
        assert await till.bought(service.log) == [100]


async def test_a_position_that_is_refused_is_a_named_error(browser: Browser) -> None:
    async with till_in(browser):
        body = """
            window.fetch = async () => new Response(JSON.stringify({error: given}), {status: 409});
            const asked = headrace.client([""])("/rows/1");
            return [await asked.then((answer) => answer.status, (error) => error.message)];
        """
        assert await run(browser, body, "UntrueToken") == ["UntrueToken"]
        assert await run(browser, body, "Conflict") == [409]


async def test_tokens_are_merged_as_python_merges_them(browser: Browser) -> None:
    chance = random.Random(5)
    pairs = [(_token(chance), _token(chance)) for _ in range(300)]
    async with till_in(browser):
        merged: Sequence[str] = await run(
            browser,
            "return given.map((pair) => headrace.merge(...pair))",
            [[one.text(), two.text()] for one, two in pairs],
        )
        for (one, two), text in zip(pairs, merged, strict=True):
            assert Token.parse(text) == one.merge(two)

        many = [Seen({partition_print(b"topic-%04d" % n, n): n}) for n in range(COMPONENTS_MAX)]
        full = [Token(CLUSTER, seen).text() for seen in many]
        (text,) = await run(browser, "return [headrace.merge(...given)]", full)
        cut = Token.parse(text).seen
        assert cut.is_cut
        assert set(cut.items()) == {item for seen in many[-100:] for item in seen.items()}

        foreign = Token(b"else", many[0]).text()
        error = await run(browser, "return headrace.merge(...given)", [full[0], foreign])
        assert "ForeignToken" in error["error"]


OFFSETS = (0, 1, 127, 128, 255, 256, 2**16, 999_999, 2**32 - 1, 2**32, 2**53 - 1)
PARTITIONS = (0, 1, 7, 127, 128, 300, 70_000)
CLUSTER = b"\x00\xffab"


def _token(chance: random.Random) -> Token:
    offsets = {}
    for number in range(chance.randrange(1, 4)):
        for _ in range(chance.randrange(1, 4)):
            topic = name_print(f"topic {number}") + b"\x00\xff\x80\x7f"
            offsets[partition_print(topic, chance.choice(PARTITIONS))] = chance.choice(OFFSETS)
    return Token(CLUSTER, Seen(offsets, is_cut=chance.random() < 0.1))
