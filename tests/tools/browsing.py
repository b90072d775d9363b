"""A real Chromium on the dashboard: what it printed, asked for and refused is kept."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

PANELS: Final = (
    *("overview", "network", "consensus", "ledger", "models"),
    *("jobs", "playground", "worker", "governance", "node"),
)
SIZES: Final = {"narrow": (360, 740), "wide": (1440, 900)}
AXE: Final = Path(__file__).parents[2] / "node/web/ui/node_modules/axe-core/axe.min.js"
IN_DOCUMENTS: Final = {
    *("live-overview-wide", "live-consensus-wide", "live-jobs-wide-dark"),
    *("live-overview-narrow", "cut-overview-wide", "playground-text"),
}
# Root may not use the sandbox of a browser, and a container may have little shared memory.
_ARGUMENTS: Final = ["--no-sandbox", "--disable-dev-shm-usage"]
expect.set_options(timeout=15_000)  # a slow machine is no fault of the page
# Kept for the documents when this names a folder: PRSM_SCREENSHOTS=docs/images pytest …
_PICTURES: Final = os.environ.get("PRSM_SCREENSHOTS", "")


def chromium() -> str:
    """Where the browser is; skips with the reason where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium here: apt-get install chromium")
    return found


@contextmanager
def browse() -> Iterator[Browser]:
    """A headless browser while the block runs."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Site(Protocol):
    """A node with a dashboard: a fake one, or a daemon."""

    @property
    def url(self) -> str:
        """Of the page."""

    @property
    def cookie(self) -> str:
        """A token that may do all."""


@dataclass
class Visit:
    """A page of the dashboard, and what it must not do.

    Attributes:
        page: Playwright's.
        shown: the node behind it.
        faults: errors of the console and of scripts, and requests to other origins.
    """

    page: Page
    shown: Site
    faults: list[str] = field(default_factory=list)

    def hear(self, said: ConsoleMessage) -> None:
        """An error of the console is a fault."""
        if said.type == "error":
            self.faults.append(said.text)

    def see(self, asked: Request) -> None:
        """A request to anybody else is a fault."""
        if not asked.url.startswith((self.shown.url, "blob:")):
            self.faults.append(asked.url)

    def enter(self, token: str = "") -> None:
        """Log in with a token typed by hand."""
        self.page.goto(self.shown.url)
        self.page.fill("input[type=password]", token or self.shown.cookie)
        self.page.press("input[type=password]", "Enter")
        self.page.wait_for_selector(".frame")

    def open(self, panel: str) -> None:
        """Go to a panel and wait until nothing of it waits for an answer."""
        self.page.evaluate("where => { location.hash = where }", f"#/{panel}")
        name = panel.partition("/")[0]
        expect(self.page.locator(f'.rail a[aria-current][href="#/{name}"]')).to_be_attached()
        self.page.wait_for_selector("main .panel")
        expect(self.page.locator(".waiting")).to_have_count(0, timeout=15_000)

    def picture(self, name: str) -> None:
        """Keep a picture of what is visible, if documents show it and pictures are kept."""
        if not _PICTURES or name not in IN_DOCUMENTS:
            return
        session = self.page.context.new_cdp_session(self.page)
        asked = {"format": "webp", "quality": 72}
        found = session.send("Page.captureScreenshot", asked)
        Path(_PICTURES, f"{name}.webp").write_bytes(base64.b64decode(found["data"]))

    def judge(self) -> list[str]:
        """What axe-core calls serious or critical in the page as it is."""
        if not AXE.exists():
            pytest.skip("no axe-core here: python3 scripts/dashboard.py fetches it")
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate(
            "async () => await axe.run(document, {resultTypes: ['violations']})"
        )
        return [
            f"{one['id']}: {one['help']}: {node['html'][:120]}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]


@contextmanager
def visit(
    browser: Browser, shown: Site, *, size: str = "wide", dark: bool = False
) -> Iterator[Visit]:
    """A fresh page of the dashboard, watched while the block runs."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        timezone_id="UTC",
        locale="en-GB",
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    found = Visit(page, shown)
    page.on("console", found.hear)
    page.on("pageerror", lambda error: found.faults.append(str(error)))
    page.on("request", found.see)
    try:
        yield found
    finally:
        context.close()
