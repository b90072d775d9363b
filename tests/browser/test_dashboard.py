"""The dashboard in a real browser: ten panels in every state, and no fault in any of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.tools.browsing import PANELS, SIZES, browse, visit
from tests.tools.dashboards import emptied, recorded, refused, show

pytestmark = pytest.mark.browser

STATES: dict[str, Callable[[], dict[str, Any]]] = {
    "live": recorded,
    "empty": emptied,
    "error": refused,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browse() as found:
        yield found


@pytest.mark.slow
def test_panels_show_a_real_nodes_answers(browser: Browser, tmp_path: Path) -> None:
    """The busiest panels: the console stays silent and no foreign address is asked."""
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter()
        for panel in ("overview", "consensus", "jobs", "node"):
            here.open(panel)
            assert here.page.locator("main .panel h2").count() >= 2
            assert here.page.locator("main .fault").count() == 0, panel
        assert here.faults == []


@pytest.mark.long
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", STATES)
def test_every_panel_is_sound_in_every_state(
    browser: Browser, tmp_path: Path, state: str, size: str, dark: bool
) -> None:
    """Axe finds nothing serious, nothing is wider than the page, every state has words."""
    node = show(tmp_path, STATES[state]())
    with node as shown, visit(browser, shown, size=size, dark=dark) as here:
        here.page.goto(shown.url)
        assert here.judge() == []
        here.enter()
        for panel in PANELS:
            here.open(panel)
            assert here.judge() == [], panel
            wide = here.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= SIZES[size][0], panel
            words = here.page.locator("main").inner_text()
            assert len(words) > 100, panel
            if state == "error" and panel != "playground":
                assert "the store does not answer" in words, panel
            here.picture(f"{state}-{panel}-{size}{'-dark' if dark else ''}")
        assert here.faults == []


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
def test_a_cut_connection_is_said_and_the_last_answer_stays(
    browser: Browser, tmp_path: Path, size: str
) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown, size=size) as here:
        here.enter()
        for panel in PANELS:
            here.open(panel)
        shown.close()
        here.page.wait_for_selector(".notice.bad")
        for panel in PANELS:
            here.open(panel)
            assert "has not answered since" in here.page.locator("main").inner_text()
            assert here.judge() == [], panel
        here.open("overview")
        assert here.page.locator(".figure b").first.inner_text() == "31"
        assert here.page.locator(".stale").count() > 0
        here.picture(f"cut-overview-{size}")
        errors = [one for one in here.faults if "ERR_CONNECTION" not in one]
        assert errors == []
