"""A headless Chromium for the tests that look at pages, and what it takes to run one."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRIVERS = ("chromedriver", "chromium.chromedriver")


def require_browser() -> tuple[str, str]:
    """Chromium and its driver; skip, loudly, where there is none, and fail where TEST_REQUIRE_ALL says so."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = next(filter(None, map(shutil.which, _DRIVERS)), None)
    if browser and driver:
        return browser, driver
    sentence = "THE BROWSER SUITE DOES NOT RUN: install chromium and chromium-driver"
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


class Browser:
    """One window; it notes what the page asks for and complains of. Blocking: run it in a thread."""

    def __init__(self, browser: str, driver: str) -> None:
        options = Options()
        options.binary_location = browser
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.add_argument("--hide-scrollbars")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(30)
        self.driver.set_script_timeout(20)
        self.resize(1280, 900)

    def resize(self, width: int, height: int) -> None:
        """Show pages at this size; a narrow one is a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {expression}")

    def until(self, condition: str) -> None:
        """Return once a JavaScript condition holds; woken by the page's own changes.

        Raises: TimeoutException, with the condition, when it does not come true.
        """
        script = """
            const done = arguments[arguments.length - 1], holds = () => { return %s; };
            if (holds()) { done(true); return; }
            const watch = new MutationObserver(() => { if (holds()) { watch.disconnect(); done(true); } });
            watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
        """
        self.driver.execute_async_script(script % condition)

    def complaints(self) -> list[str]:
        """What stands in the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requested(self) -> list[str]:
        """URLs that were asked for since the last call."""
        log = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in log]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def picture(self, path: Path, *, of: str = "") -> None:
        """The whole page as a PNG, or the element that a selector finds, with some room around it."""
        box = [0, 0, *self.evaluate("[innerWidth, document.documentElement.scrollHeight]")]
        if of:
            rect = f"document.querySelector({of!r}).getBoundingClientRect()"
            box = self.evaluate(
                f"(r => [r.x + scrollX - 16, r.y + scrollY - 16, r.width + 32, r.height + 32])({rect})"
            )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        path.write_bytes(
            base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"])
        )

    def close(self) -> None:
        """Close the window and end the process."""
        self.driver.quit()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser that the tests of a session share."""
    browser = Browser(*require_browser())
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser on an empty page, a desk wide, with nothing noted."""
    chromium.driver.get("about:blank")
    chromium.resize(1280, 900)
    chromium.prefer("light")
    chromium.complaints()
    chromium.requested()
    yield chromium
    # Its feed keeps a connection open otherwise, and the next test's server may get the same port.
    chromium.driver.get("about:blank")
