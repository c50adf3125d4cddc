"""The whiteboard in a real Chromium: live, readable everywhere, and alone with its own server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By

from app.whiteboard import SystemServer
from headrace.http.server import HttpServer
from headrace.settings import Settings
from tests.browser_fixture import Browser
from tests.flow.shop import Shop, by_key, open_shop, purchases
from tests.http.service import Service as Reads
from tests.http.service import served
from tests.service import Service, quick, running

ROWS = """document.querySelector('svg.wide [data-slot="shop/table/balances/rows"]').textContent"""
ANSWER = "document.querySelector('.answer').textContent"
CONTRAST = """
(() => {
  const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const under = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = numbers(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
  };
  const kinds = 'h1, h2, h3, dt, dd, th, td, p, a, label, button, code, summary, .fact *, .pill, .worker,'
    + 'svg.wide text';
  const seen = [...document.querySelectorAll(kinds)]
    .filter(e => e.textContent.trim() && e.getClientRects().length);
  return seen.map(e => {
    const style = getComputedStyle(e);
    const text = luminance(numbers(e.closest('svg') ? style.fill : style.color)), back = luminance(under(e));
    return [e.textContent.trim().slice(0, 40), (Math.max(text, back) + .05) / (Math.min(text, back) + .05)];
  }).filter(([, contrast]) => contrast < 4.5);
})()
"""


@asynccontextmanager
async def shop_in(browser: Browser, settings: Settings | None = None) -> AsyncIterator[tuple[Shop, Service]]:
    """A running shop, and the browser on its page."""
    shop = open_shop()
    shop.app.serve(shop.balances, "/balances")
    async with running(shop.app, settings=settings or quick()) as service:
        await asyncio.to_thread(browser.driver.get, page_of(service))
        yield shop, service
        await asyncio.to_thread(browser.driver.get, "about:blank")


def page_of(service: Service) -> str:
    host, port = service.runtime.address
    return f"http://{host}:{port}/"


async def test_it_changes_by_itself_when_events_are_applied(browser: Browser) -> None:
    async with shop_in(browser) as (shop, service):
        assert await asyncio.to_thread(browser.evaluate, ROWS) == "0"
        await service.send_all(shop.buys, by_key(purchases(200)))
        await asyncio.to_thread(browser.until, f"{ROWS} === '7'")
        offsets = (
            "[...document.querySelectorAll('td [data-slot$=\"/buys/offset\"]')].map(e => +e.textContent)"
        )
        await asyncio.to_thread(browser.until, f"{offsets}.reduce((a, b) => a + b) >= 200")


async def test_a_key_can_be_looked_up_with_its_partition_and_position(browser: Browser) -> None:
    async with shop_in(browser) as (shop, service):
        await service.send_all(shop.buys, by_key(purchases(70)))
        await service.until_applied()
        await asyncio.to_thread(look_up, browser, "3")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('cents')")
        answer = await asyncio.to_thread(browser.evaluate, ANSWER)
        assert '"visits": 10' in answer
        assert "Partition" in answer
        assert "buys/" in answer
        link = await asyncio.to_thread(browser.evaluate, "document.querySelector('.answer a').href")
        assert link == page_of(service) + "balances/3"
        await asyncio.to_thread(look_up, browser, "99")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('No row has this key')")
        await asyncio.to_thread(look_up, browser, "three")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('decimal integer')")


def look_up(browser: Browser, key: str) -> None:
    # In one go: the page may draw itself anew between two calls from outside.
    found = "document.querySelector('[name=key]')"
    browser.evaluate(f"({found}.value = {key!r}, {found}.form.requestSubmit())")


STORY = "document.querySelector('.telling').textContent"
STEPS = "document.querySelectorAll('.story li').length"


def ask(browser: Browser, button: int) -> None:
    browser.evaluate(f"document.querySelectorAll('.asking button')[{button}].click()")


async def test_why_a_row_is_so_is_told_below_and_so_are_the_events_of_its_key(browser: Browser) -> None:
    async with shop_in(browser) as (shop, service):
        await service.send_all(shop.buys, by_key(purchases(70)))
        await service.until_applied()
        await asyncio.to_thread(look_up, browser, "3")
        await asyncio.to_thread(browser.until, "document.querySelector('.asking') !== null")
        await asyncio.to_thread(ask, browser, 0)
        await asyncio.to_thread(browser.until, f"{STORY}.includes('These events make it.')")
        told = await asyncio.to_thread(browser.evaluate, STORY)
        assert await asyncio.to_thread(browser.evaluate, STEPS) == 10
        assert '{"cents":345,"visits":10}' in told
        await asyncio.to_thread(ask, browser, 1)
        await asyncio.to_thread(browser.until, f"{STORY}.includes('In log order')")
        assert await asyncio.to_thread(browser.evaluate, STEPS) == 10
        asked = {urlsplit(url).path for url in await asyncio.to_thread(browser.requested)}
        assert {"/whiteboard/why", "/whiteboard/history"} <= asked
        assert await asyncio.to_thread(browser.complaints) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
async def test_what_is_told_is_readable_at_night_and_on_a_phone(
    browser: Browser, scheme: str, width: int
) -> None:
    browser.prefer(scheme)
    browser.resize(width, 844)
    async with shop_in(browser) as (shop, service):
        await service.send_all(shop.buys, by_key(purchases(70)))
        await service.append("buys", b"3", b'{"type": "Bought"}', partition=place_of(shop, 3))
        await service.until_applied()
        await asyncio.to_thread(look_up, browser, "3")
        await asyncio.to_thread(browser.until, "document.querySelector('.asking') !== null")
        await asyncio.to_thread(ask, browser, 0)
        await asyncio.to_thread(browser.until, f"{STORY}.includes('DecodeError')")
        assert await asyncio.to_thread(browser.evaluate, "document.documentElement.scrollWidth") <= width
        assert await asyncio.to_thread(browser.evaluate, CONTRAST.strip()) == []


def place_of(shop: Shop, key: int) -> int:
    return shop.buys.partitioner.place(b"%d" % key, 2)


async def test_it_asks_its_own_server_only_and_complains_of_nothing(browser: Browser) -> None:
    async with shop_in(browser) as (shop, service):
        await service.send_all(shop.buys, by_key(purchases(7)))
        await asyncio.to_thread(browser.until, f"{ROWS} === '7'")
        await asyncio.to_thread(look_up, browser, "3")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('cents')")
        asked = [urlsplit(url) for url in await asyncio.to_thread(browser.requested)]
        own = urlsplit(page_of(service)).netloc
        strangers = [url.geturl() for url in asked if url.scheme != "data" and url.netloc != own]
        assert [url for url in strangers if not url.startswith("about:")] == []
        assert {"/", "/whiteboard/feed", "/whiteboard/row"} <= {url.path for url in asked}
        assert await asyncio.to_thread(browser.complaints) == []


async def test_a_phone_has_a_picture_of_its_own_and_no_sideways_scroll(browser: Browser) -> None:
    for width in (320, 390):
        browser.resize(width, 844)
        async with shop_in(browser):
            assert await asyncio.to_thread(browser.evaluate, "document.documentElement.scrollWidth") <= width
            shown = "[...document.querySelectorAll('svg.board')].map(e => e.getClientRects().length > 0)"
            assert await asyncio.to_thread(browser.evaluate, shown) == [False, True]
            smallest = (
                "Math.min(...[...document.querySelectorAll('svg.narrow text')].filter(e => e.textContent)"
                ".map(e => e.getBoundingClientRect().height))"
            )
            assert await asyncio.to_thread(browser.evaluate, smallest) >= 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_background(browser: Browser, scheme: str) -> None:
    browser.prefer(scheme)
    async with shop_in(browser):
        background = await asyncio.to_thread(
            browser.evaluate, "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(background) < 150) is (scheme == "dark")
        assert await asyncio.to_thread(browser.evaluate, CONTRAST.strip()) == []


async def test_it_can_be_used_without_seeing_it(browser: Browser) -> None:
    async with shop_in(browser):
        assert await asyncio.to_thread(browser.evaluate, "document.documentElement.lang") == "en"
        said = "document.querySelector('svg.wide desc').textContent"
        assert "Topics in: buys" in await asyncio.to_thread(browser.evaluate, said)
        assert "Agents: open_shop.<locals>.earn" in await asyncio.to_thread(browser.evaluate, said)
        nameless = "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length"
        assert await asyncio.to_thread(browser.evaluate, nameless) == 0


async def test_with_tokens_it_asks_for_one_first(browser: Browser) -> None:
    settings = quick(tokens=(hashlib.sha256(b"open sesame").hexdigest(),))
    async with shop_in(browser, settings) as (shop, service):
        assert await asyncio.to_thread(browser.evaluate, "document.querySelectorAll('svg').length") == 0
        await asyncio.to_thread(show_token, browser, "open barley")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('not valid')")
        await asyncio.to_thread(show_token, browser, "open sesame")
        await asyncio.to_thread(browser.until, "document.querySelector('svg.wide') !== null")
        await service.send_all(shop.buys, by_key(purchases(7)))
        await asyncio.to_thread(browser.until, f"{ROWS} === '7'")
        await asyncio.to_thread(look_up, browser, "3")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('cents')")


def show_token(browser: Browser, token: str) -> None:
    field = browser.driver.find_element(By.NAME, "token")
    field.clear()
    field.send_keys(token)
    field.submit()


async def test_names_and_rows_are_text_and_never_markup(browser: Browser) -> None:
    name = "<img src=x onerror=document.title='taken'>"
    table = served("plain", str)
    reads = Reads(served(name, str), table)
    reads.put(table, "<b>", "</script><script>document.title='taken'</script>")
    server = HttpServer(reads)
    await server.start()
    try:
        await asyncio.to_thread(browser.driver.get, "http://{}:{}/".format(*server.address))
        script = "document.querySelector('select').value = 'plain'"
        await asyncio.to_thread(browser.evaluate, script)
        await asyncio.to_thread(look_up, browser, "<b>")
        await asyncio.to_thread(browser.until, f"{ANSWER}.includes('taken')")
        assert await asyncio.to_thread(browser.evaluate, "document.title") == "loyalty"
        assert await asyncio.to_thread(browser.evaluate, "document.querySelectorAll('img').length") == 0
        await asyncio.to_thread(browser.driver.get, "about:blank")
    finally:
        await server.stop(timeout_s=5.0)


async def test_it_says_when_the_worker_is_gone(browser: Browser) -> None:
    async with shop_in(browser) as (_, service):
        await service.stop()
        await asyncio.to_thread(
            browser.until, "document.querySelector('.pill').textContent === 'does not answer'"
        )


async def test_services_share_one_page_that_lives_with_them(browser: Browser) -> None:
    balances = served("balances", int)
    reads = Reads(balances)
    server = HttpServer(reads)
    await server.start()
    address = "{}:{}".format(*server.address)
    page = SystemServer({"loyalty": address}, 0)
    await asyncio.to_thread(page.__enter__)
    try:
        await asyncio.to_thread(browser.driver.get, page.url)
        rows = "document.querySelector('svg.wide [data-slot=\"loyalty/table/balances/rows\"]').textContent"
        assert await asyncio.to_thread(browser.evaluate, rows) == "0"
        reads.put(balances, 7, {"points": 1})
        await asyncio.to_thread(browser.until, f"{rows} === '1'")
        assert (
            await asyncio.to_thread(browser.evaluate, "document.querySelector('h2 a').href")
            == f"http://{address}/"
        )
        assert await asyncio.to_thread(browser.complaints) == []
        await server.stop(timeout_s=5.0)
        await asyncio.to_thread(browser.until, "document.querySelector('.pill').textContent === 'silent'")
        await asyncio.to_thread(browser.driver.get, "about:blank")
    finally:
        await asyncio.to_thread(page.__exit__)
        await server.stop(timeout_s=5.0)
