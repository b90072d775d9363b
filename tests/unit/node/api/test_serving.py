"""Serving as clients see it: refusals are typed and at once, channels go back by one command."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from prsm.node.api.serving import ServingApi
from prsm.node.inference.serving.service import ServeRequest
from prsm.node.rpc.errors import CallTimeout
from prsm.node.rpc.methods.serving import ServeParams
from prsm.node.rpc.spec import Caller
from prsm.protocol.transactions.payloads import REGISTER_MODEL, RegisterModel
from prsm.storage.cid import decode_cid
from tests.tools.site import Site, open_site

pytestmark = pytest.mark.slow
ID = "0x" + "00" * 32


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as made:
        yield made


async def register(site: Site, *versions: str) -> None:
    for number, semver in enumerate(versions):
        cid = decode_cid(b"\x01\x55\x12\x20" + bytes([number]) * 32)
        payload = RegisterModel(cid.raw, "net", semver, bytes(32), 1, ())
        tx_id = await site.parts.wallet.submit(REGISTER_MODEL, payload)
        result = await site.parts.wallet.wait_committed(tx_id)
        assert result.receipt.code.name == "DONE", result


async def channels(site: Site) -> dict[str, list[str]]:
    answer = await site.ask("model_listVersions", name="net")
    return {item["semver"]: item["channels"] for item in answer["items"]}


async def test_channel_goes_back_to_the_version_before_and_on_again(site: Site) -> None:
    with trio.fail_after(60):
        await register(site, "1.0.0", "1.1.0", "2.0.0")
        back = await site.ask("model_rollback", name="net")
        assert (back["channel"], back["before"], back["after"]) == ("stable", "2.0.0", "1.1.0")
        await site.committed(back["tx_id"])
        assert await channels(site) == {"1.0.0": [], "1.1.0": ["stable"], "2.0.0": []}
        yanked = await site.ask("model_yank", name="net", semver="1.0.0")
        await site.committed(yanked["tx_id"])
        assert await site.refused("model_rollback", name="net") == (-32003, "not_found")
        on = await site.ask("model_rollback", name="net", to="2.0.0")
        await site.committed(on["tx_id"])
        assert (await channels(site))["2.0.0"] == ["stable"]


async def test_what_does_not_exist_is_refused(site: Site) -> None:
    with trio.fail_after(60):
        assert (await site.refused("model_rollback", name="nobody"))[1] == "model_not_found"
        await register(site, "1.0.0")
        for wrong in ({"channel": "beta"}, {"to": "9.9.9"}, {}):
            assert (await site.refused("model_rollback", name="net", **wrong))[1] == "not_found"
        assert (await site.refused("serve_close", tab_id=ID))[1] == "unknown_job"
        assert (await site.refused("serve_run", model="nobody", texts=["a"]))[1] == (
            "model_not_found"
        )
        assert (await site.refused("serve_warm", model="nobody"))[1] == "model_not_found"
        assert (await site.refused("model_getHealth", model="nobody"))[1] == "model_not_found"


async def test_nothing_served_yet_is_an_empty_answer(site: Site) -> None:
    state = await site.ask("serve_list")
    assert (state["items"], state["at_work"], state["waiting"]) == ([], 0, 0)
    assert (await site.ask("model_getHealth"))["items"] == []


class Sleepy:
    """Serving that never answers, and remembers that it was told to stop."""

    is_stopped = False

    async def ask(self, _request: ServeRequest) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.is_stopped = True


async def test_request_of_a_client_that_hung_up_is_given_up() -> None:
    sleepy = Sleepy()
    api = ServingApi(sleepy, None, None, None)  # type: ignore[arg-type]  # only asks it
    caller = Caller("test", frozenset(), wait_gone=trio.lowlevel.checkpoint)
    with trio.fail_after(5), pytest.raises(CallTimeout):
        await api.run(ServeParams("net", texts=("a",)), caller)
    assert sleepy.is_stopped
