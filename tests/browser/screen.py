"""A tab of a browser that keeps what went wrong in it, and that reads a page as people do."""

import re
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page

PATIENCE_MS = 30_000
GRAVE = ("serious", "critical")
LIKE_OTHERS = "tbody tr:nth-child(n+6):not(.late)"
"""Rows of a table are made alike, so that axe looks at the first five, and at those that stand out."""
DARK = 64
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}


class Screen:
    """One tab. `faults`: errors on its console, scripts that broke, requests to other hosts, answers 4xx and
    5xx that no test has asked for.
    """

    def __init__(self, browser: Browser, url: str, *, phone: bool = False, state: Any = None) -> None:
        self._context = browser.new_context(
            base_url=url,
            color_scheme="light",
            viewport=PHONE if phone else DESK,  # type: ignore[arg-type]
            has_touch=phone,
            reduced_motion="reduce",
            storage_state=state,
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self._host = urlsplit(url).netloc
        self.faults: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", lambda request: self._see(request.url))
        self.page.on("response", lambda answer: self._judge(answer.status, answer.url))

    def close(self) -> None:
        """The tab, and its cookies with it."""
        self._context.close()

    @property
    def state(self) -> Any:
        """Its cookies, for another tab."""
        return self._context.storage_state()

    def visit(self, path: str) -> None:
        """A page, until all of it has come."""
        self.page.goto(path, wait_until="load")

    def text(self) -> str:
        return self.page.locator("main").inner_text()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def turn(self) -> None:
        """From light to dark, as the system of whoever looks at it would, or back."""
        self.page.emulate_media(color_scheme="light" if self.is_dark() else "dark")

    def grave_faults(self) -> list[str]:
        """What axe finds that keeps somebody out."""
        return self._found()

    def faint_texts(self) -> list[str]:
        """The same of colours alone, which are all that the other theme changes."""
        return self._found(runOnly=["color-contrast"])

    def _found(self, **only: list[str]) -> list[str]:
        options = {"resultTypes": ["violations"], **only}
        ran = Axe().run(self.page, context={"exclude": [[LIKE_OTHERS]]}, options=options)
        return [
            f"{each['id']} ({each['impact']}): {node['target']} {node['failureSummary']}"
            for each in ran.response["violations"]
            if each["impact"] in GRAVE
            for node in each["nodes"]
        ]

    def scrolled_sideways(self) -> int:
        """How many pixels somebody can push the page to the side."""
        return int(self.page.evaluate("() => { scrollTo(9999, 0); return scrollX }"))

    def is_dark(self) -> bool:
        """Whether light letters stand on a dark ground."""
        ground = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(int(part) for part in re.findall(r"\d+", ground)[:3]) < DARK

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console {kind}: {text}")

    def _see(self, url: str) -> None:
        if urlsplit(url).netloc != self._host and not url.startswith(("data:", "blob:")):
            self.faults.append(f"request to another host: {url}")

    def _judge(self, status: int, url: str) -> None:
        if status >= 400:
            self.faults.append(f"{status}: {url}")
