"""A Chromium of the system, and a ledger with data that it looks at; both start once.

All tests of the browser stand in one file: pytest-xdist gives a file to one process, so that they share them.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.screen import PATIENCE_MS, Screen
from tests.browser.shop import Shop
from tests.folders import reachable_folder

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Until the module ends: Playwright keeps an event loop in this thread, which others need."""
    found = [path for path in map(shutil.which, NAMES) if path]
    if not found:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shop(browser: Browser) -> Iterator[Shop]:
    with reachable_folder() as folder:
        shop = Shop(folder)
        try:
            shop.open()
            yield shop
        finally:
            shop.stop()


@pytest.fixture
def tab(browser: Browser, shop: Shop) -> Iterator[Callable[..., Screen]]:
    """Opens tabs; when the test ends, nothing may have gone wrong in any of them."""
    opened: list[Screen] = []

    def open_one(**more: Any) -> Screen:
        opened.append(Screen(browser, shop.url, **more))
        return opened[-1]

    yield open_one
    faults = [fault for each in opened for fault in each.faults]
    for each in opened:
        each.close()
    assert [] == faults
