"""The dashboard of a real node among four: what it shows is what happens."""

import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.tokens import Login
from prsm.node.worker.recipes.decoder import Config, write
from prsm.testnet import launch
from tests.tools.browsing import PANELS, browse, visit

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.long]


class _Node:
    """What `visit` needs of a daemon."""

    def __init__(self, node: launch.Node) -> None:
        with node.client() as client:
            status = client.call("node_getStatus", result=NodeStatus)
        self.url = f"http://{status.rpc}"
        self.cookie = node.home.cookie.read_text(encoding="ascii").strip()


def test_a_job_asked_for_in_the_page_is_run_checked_and_paid(tmp_path: Path) -> None:
    """Four daemons, a small encoder on all: the page runs rows, then sees a node die."""
    network = launch.create(tmp_path / "net", 4)
    try:
        network.start()
        _spread_model(network, tmp_path / "model")
        with browse() as browser, visit(browser, _Node(network.nodes[0])) as here:
            here.page.goto(_login_link(network.nodes[0]))
            expect(here.page.locator(".tools")).to_contain_text("live", timeout=15_000)
            here.open("playground")
            here.page.get_by_role("button", name="Run", exact=True).click()
            # The link's token only reads; running costs money.
            dialog = here.page.get_by_role("dialog")
            expect(dialog).to_contain_text("This needs the scope “write”")
            dialog.get_by_label("Token").fill(here.shown.cookie)
            dialog.get_by_role("button", name="Use it").click()
            expect(here.page.locator(".likeness")).to_be_visible(timeout=60_000)
            for panel in PANELS:
                here.open(panel)
                assert here.page.locator("main .fault").count() == 0, panel
            here.open("jobs")
            expect(here.page.locator("main")).to_contain_text("all answers agreed")
            expect(here.page.locator(".waterfall")).to_contain_text("agreed")
            with here.page.expect_download() as saved:
                here.page.get_by_role("button", name="Save the proof").click()
            assert saved.value.suggested_filename.startswith("prsm-proof-")
            here.open("network")
            expect(here.page.locator(".dot")).to_have_count(4)
            network.nodes[3].signal(signal.SIGKILL)
            expect(here.page.locator(".dot text.gone")).to_be_visible(timeout=60_000)
            assert here.faults == []
    finally:
        network.stop()


def _login_link(node: launch.Node) -> str:
    """As `prsm dashboard` prints it."""
    with node.client() as client:
        return client.call("token_createLogin", result=Login).url


def _spread_model(network: launch.Network, folder: Path) -> None:
    model, tokenizer = write(folder, Config(layers=6))
    with network.nodes[0].client(timeout_s=120) as first:
        asked = AddParams(path=str(model), name="encoder", stages=(3,), tokenizer=str(tokenizer))
        added = first.call("model_add", asked, result=ModelInfo)
    for node in network.nodes[1:]:
        with node.client(timeout_s=120) as client:
            client.call("model_pull", RefParams(added.cid), result=ModelInfo)
    deadline = time.monotonic() + 60
    for node in network.nodes:
        node.wait_ready(deadline)
