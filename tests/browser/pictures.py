"""`python -m tests.browser.pictures`: takes the pictures of docs/images from the running reference system."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from selenium.common.exceptions import WebDriverException

from app.client import Client
from app.demo import NAMES
from app.grocery import load_year
from app.replay import Addresses, Replay
from app.service import ROOT, Service, await_ready, free_port
from app.whiteboard import SystemServer
from headrace.events.partitioner import Partitioner
from headrace.log.connect import connect
from headrace.log.port import Append
from headrace.settings import Settings
from tests.browser_fixture import Browser, require_browser

IMAGES = ROOT / "docs" / "images"
BASKETS = "checkout.events"
PARTITIONS = 8


def main() -> None:
    """Start the three services, replay the year, and look at them on the way."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, closing(Browser(*require_browser())) as browser:
        _take(Path(folder), browser)


def _take(folder: Path, browser: Browser) -> None:
    log_url = f"embedded://{folder / 'log.db'}"
    services = [Service(name, port=free_port(0), folder=folder, log_url=log_url) for name in NAMES]
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.stop)
            service.start()
        await_ready(services)
        loyalty = services[-1]
        addresses = Addresses(**{service.name: service.address for service in services})
        page = stack.enter_context(SystemServer({s.name: s.address for s in services}, 0))
        with ThreadPoolExecutor(1) as threads:
            replaying = threads.submit(Replay(load_year(), addresses).run, lambda _: None)
            _take_under_load(browser, page.url, loyalty)
            replaying.result()
        _take_why(browser, next(each for each in services if each.name == "promotions"))
        _take_restore(browser, services, folder)
        _take_dead_letters(browser, log_url, loyalty)


def _take_under_load(browser: Browser, page_url: str, loyalty: Service) -> None:
    is_busy = "+document.querySelector('dl [data-slot$=\"/rate\"]').textContent.replace(/[^0-9]/g, '') > 900"
    own = f"http://{loyalty.address}/"
    browser.driver.get(page_url)
    browser.until(is_busy)
    browser.picture(IMAGES / "whiteboard-services.png")
    browser.driver.get(own)
    browser.until(is_busy)
    browser.picture(IMAGES / "whiteboard-load.png")
    browser.prefer("dark")
    browser.driver.get(own)
    browser.until(is_busy)
    browser.picture(IMAGES / "whiteboard-dark.png")
    browser.prefer("light")
    browser.resize(390, 844)
    browser.driver.get(own)
    browser.until(is_busy)
    browser.picture(IMAGES / "whiteboard-phone.png")
    browser.resize(1280, 900)


def _take_why(browser: Browser, promotions: Service) -> None:
    """Ask why a household's coupon book is so: one of its two redemptions was corrected."""
    with closing(Client(promotions.address)) as client:
        books = client.rows("/coupons")
        household = next(key for key, book in books if (book["redeemed"], book["corrected"]) == (2, 1))
    browser.driver.get(f"http://{promotions.address}/")
    _look_up(browser, "coupon_books", str(household))
    browser.driver.execute_script("document.querySelector('.asking button').click()")
    browser.until("document.querySelector('.story li') !== null")
    browser.picture(IMAGES / "whiteboard-why.png", of=".telling")


def _look_up(browser: Browser, table: str, key: str) -> None:
    browser.driver.execute_script(
        "const form = document.querySelector('form.lookup');"
        "form.elements.table.value = arguments[0]; form.elements.key.value = arguments[1];"
        "form.requestSubmit();",
        table,
        key,
    )
    browser.until("document.querySelector('.answer pre') !== null")


def _take_restore(browser: Browser, services: Sequence[Service], folder: Path) -> None:
    """Take the disk of loyalty away, and look while it restores its tables from the changelog."""
    loyalty = services[-1]
    loyalty.stop()
    shutil.rmtree(folder / "data" / loyalty.name)
    loyalty.start()
    share = "+document.querySelector('.restore progress').value"
    while not loyalty.is_ready():
        loyalty.check()
        if _is_shown(browser, loyalty) and 0.15 < float(browser.evaluate(share)) < 0.95:
            browser.picture(IMAGES / "whiteboard-restore.png")
            break
    await_ready(services)


def _is_shown(browser: Browser, service: Service) -> bool:
    try:
        browser.driver.get(f"http://{service.address}/")
    except WebDriverException:  # it does not listen yet
        return False
    return bool(browser.evaluate("document.querySelector('.restore[data-shown=yes]') !== null"))


def _take_dead_letters(browser: Browser, log_url: str, loyalty: Service) -> None:
    """Send baskets that nobody can read, look, and look a household up that is none the worse."""
    asyncio.run(_send_unreadable(log_url, 12))
    browser.driver.get(f"http://{loyalty.address}/")
    browser.until("document.querySelector('dd[data-count=some]') !== null")
    _look_up(browser, "balances", "1029")
    browser.picture(IMAGES / "whiteboard-dead-letters.png")


async def _send_unreadable(log_url: str, count: int) -> None:
    log = connect(Settings(log=log_url))
    await log.open()
    writer = await log.writer("a producer that knows no better")
    for number in range(count):
        key = b"%d" % (1029 + number)
        place = Partitioner.MURMUR2.place(key, PARTITIONS)
        record = (key, b'{"type":"BasketPurchased","household_id":', (), 0)
        await writer.commit([Append(BASKETS, place, [record])])
    await writer.close()
    await log.close()


if __name__ == "__main__":
    main()
