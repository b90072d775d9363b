"""What a visitor does with the dashboard: log in, steer by keys, look back, run, be refused."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, expect

from prsm.node.rpc.errors import Forbidden
from prsm.node.rpc.methods.generation import GenerationInfo
from tests.tools.browsing import browse, visit
from tests.tools.dashboards import recorded, show

pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browse() as found:
        yield found


def test_a_login_link_works_once_and_leaves_the_address(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown:
        link = f"{shown.url}/#login={shown.code()}"
        with visit(browser, shown) as here:
            here.page.goto(link)
            here.page.wait_for_selector(".frame")
            assert "login" not in here.page.url
            assert here.page.evaluate("localStorage.length + sessionStorage.length") == 0
            assert here.page.context.cookies() == []
        with visit(browser, shown) as again:
            again.page.goto(link)
            expect(again.page.locator(".fault")).to_contain_text("prsm dashboard")


def test_a_wrong_token_is_said_and_a_right_one_enters(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.page.goto(shown.url)
        here.page.fill("input[type=password]", "wrong")
        here.page.press("input[type=password]", "Enter")
        expect(here.page.locator(".fault")).to_contain_text("Not let in")
        here.enter()


def test_keys_reach_every_panel_and_the_search(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter()
        keys = here.page.keyboard
        keys.press("3")
        expect(here.page).to_have_title("Consensus · PRSM")
        keys.press("0")
        expect(here.page).to_have_title("Node · PRSM")
        keys.press("/")
        keys.type("26")
        keys.press("Enter")
        expect(here.page.get_by_role("heading", name="Block 26")).to_be_visible()
        keys.press("Escape")
        keys.press("?")
        expect(here.page.get_by_role("dialog", name="Keys")).to_be_visible()
        keys.press("Escape")
        keys.press("t")
        assert here.page.evaluate("document.documentElement.dataset.theme") == "dark"
        # By Tab alone the first stop is the way past the list.
        here.page.evaluate("document.activeElement.blur()")
        keys.press("Tab")
        expect(here.page.locator(":focus")).to_have_text("To the content")


def test_time_is_turned_back_block_by_block(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter()
        here.open("consensus")
        expect(here.page.locator(".tape .t-block").first).to_be_attached()
        here.page.keyboard.press("[")
        expect(here.page.locator(".notice")).to_contain_text("You see 21:44:06")
        here.page.keyboard.press("[")
        expect(here.page.locator(".notice")).to_contain_text("You see 21:43:56")
        assert here.page.locator(".tape.past").count() == 1
        here.page.get_by_role("button", name="Back to now").first.click()
        assert here.page.locator(".notice").count() == 0


def test_votes_of_the_websocket_are_drawn_by_time(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter()
        here.open("consensus/31")
        panel = here.page.locator(".panel", has_text="Height 31 by time")
        expect(panel.locator(".m-prepare")).to_have_count(4)
        expect(panel.locator(".m-commit")).to_have_count(3)
        expect(panel.locator(".m-late")).to_have_count(1)
        expect(here.page.locator(".tools")).to_contain_text("live")


def test_text_of_others_is_text(browser: Browser, tmp_path: Path) -> None:
    """Names and reasons come from peers: markup in them must stay what was typed."""
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    answers = recorded()
    model = msgspec.structs.replace(answers["model_list"].items[0], ref=evil, name=evil)
    answers["model_list"] = msgspec.structs.replace(answers["model_list"], items=(model,))
    status = answers["node_getStatus"]
    answers["node_getStatus"] = msgspec.structs.replace(status, name=evil)
    with show(tmp_path, answers) as shown, visit(browser, shown) as here:
        here.enter()
        here.open("models")
        assert evil in here.page.locator("main").inner_text()
        assert here.page.locator("main img").count() == 0
        assert here.page.title() == "Models · PRSM"
        assert here.faults == []


def test_the_policy_refuses_scripts_and_markup(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter()
        with pytest.raises(Exception, match="Trusted"):
            here.page.evaluate("document.body.innerHTML = '<b>x</b>'")
        with pytest.raises(Exception, match="Trusted"):
            here.page.evaluate("document.createElement('script').src = 'data:,window.x=1'")
        with pytest.raises(Exception, match="Failed to fetch"):
            here.page.evaluate("fetch('http://127.0.0.1:1/')")


def test_a_write_asks_for_a_token_that_may(browser: Browser, tmp_path: Path) -> None:
    answers = recorded()
    whoami = msgspec.structs.replace(answers["token_whoami"], scopes=("read",))
    with (
        show(tmp_path, answers | {"token_whoami": whoami}) as shown,
        visit(browser, shown) as here,
    ):
        here.enter(shown.token("read"))
        here.open("models")
        here.page.get_by_role("button", name="Pin", exact=True).click()
        dialog = here.page.get_by_role("dialog")
        expect(dialog).to_contain_text("This needs the scope “write”")
        assert here.judge() == []
        dialog.get_by_label("Token").fill(shown.token("read", "write"))
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_have_count(0)
        expect(here.page.get_by_role("button", name="Pin", exact=True)).to_be_visible()
        assert [name for name, _ in shown.door.node.calls].count("model_pin") == 1


def test_a_refused_write_says_why(browser: Browser, tmp_path: Path) -> None:
    answers = recorded() | {"storage_gc": Forbidden("the store is being moved", hint="wait")}
    with show(tmp_path, answers) as shown, visit(browser, shown) as here:
        here.enter()
        here.open("node")
        here.page.get_by_role("button", name="Make room").click()
        here.page.get_by_role("button", name="Yes").click()
        expect(here.page.locator("main")).to_contain_text("the store is being moved")


def _generation(text: str, *, tokens: int, is_over: bool) -> GenerationInfo:
    return GenerationInfo(
        generation_id="0x" + "ab" * 32,
        state="done" if is_over else "running",
        text=text,
        is_over=is_over,
        finish="length" if is_over else None,
        prompt_tokens=4,
        tokens=tokens,
        opened_ms=420,
        first_token_ms=80,
        tokens_ms=40 * tokens,
        locked="12000",
        jobs=("0x" + "cd" * 32,),
        stages=("12D3KooWN1vBNf2vPdXZxwPJgmhLHoPSKYqHvZM4yhtpYpAe19tM", "home"),
        recoveries=(),
    )


def test_the_playground_streams_text_and_shows_each_hop(browser: Browser, tmp_path: Path) -> None:
    words = ["", " there", " was", " a", " node."]
    parts = iter(
        _generation(word, tokens=at, is_over=at == 4) for at, word in enumerate(words) if at
    )
    answers = recorded() | {"infer_generate": _generation("", tokens=0, is_over=False)}
    made = {"infer_readTokens": lambda: next(parts)}
    with show(tmp_path, answers, made) as shown, visit(browser, shown) as here:
        here.enter()
        here.open("playground")
        here.page.get_by_role("button", name="Go on from a text").click()
        here.page.get_by_role("button", name="Generate").click()
        expect(here.page.locator(".written")).to_have_text("Once upon a time there was a node.")
        expect(here.page.locator(".hops li")).to_have_count(4)
        expect(here.page.locator(".hops")).to_contain_text("Ae19tM")
        here.picture("playground-text")
        assert here.judge() == []
        assert here.faults == []


def test_a_revoked_token_ends_the_session(browser: Browser, tmp_path: Path) -> None:
    with show(tmp_path, recorded()) as shown, visit(browser, shown) as here:
        here.enter(shown.token("read"))
        shown.revoke_all()
        expect(here.page.locator(".fault")).to_contain_text("no longer good", timeout=15_000)
