"""node_getConfig and node_runDoctor: what the running node has, what the file says, who may ask."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from prsm.node.api.care import CareApi
from prsm.node.cli.birth import Birth, init_home
from prsm.node.config import load
from prsm.node.home import Home
from prsm.node.rpc.errors import Forbidden
from prsm.node.rpc.methods.node import NodeStatus, Peers
from prsm.node.rpc.spec import ALL_SCOPES, Caller, NoParams
from tests.tools.rpc_node import ANYBODY, sample

TENANT = Caller("token lab", ALL_SCOPES, tenant="lab")


@pytest.fixture
def api(tmp_path: Path) -> tuple[Home, CareApi]:
    home = Home(tmp_path / "home")
    init_home(home, Birth("node", "validator", "local", None, None, {"rpc.listen": "127.0.0.1:0"}))

    async def status(_params: object, _caller: Caller) -> Any:  # noqa: ANN401 - of the method
        await trio.lowlevel.checkpoint()
        return msgspec.structs.replace(sample(NodeStatus), head_time=None)

    async def peers(_params: object, _caller: Caller) -> Any:  # noqa: ANN401 - of the method
        await trio.lowlevel.checkpoint()
        return sample(Peers)

    config = load(home.config, environ={}).config
    return home, CareApi(home, config, {"node_getStatus": status, "net_getPeers": peers})


async def test_a_change_of_the_file_is_pending_until_a_restart(api: tuple[Home, CareApi]) -> None:
    home, care = api
    before = {row.key: row for row in (await care.config(NoParams(), ANYBODY)).items}
    assert (before["log.level"].value, before["log.level"].pending) == ("info", None)
    assert before["rpc.listen"].origin == "file"
    home.config.write_text('[storage]\nipfs_rpc = ["http://me:pass@127.0.0.1:5001"]\n')
    after = {row.key: row for row in (await care.config(NoParams(), ANYBODY)).items}
    assert after["storage.ipfs_rpc"].value == ()
    assert after["storage.ipfs_rpc"].pending == ("http://[secret]@127.0.0.1:5001",)


async def test_a_broken_file_still_shows_what_runs(api: tuple[Home, CareApi]) -> None:
    home, care = api
    home.config.write_text("no toml [", encoding="utf-8")
    rows = (await care.config(NoParams(), ANYBODY)).items
    assert all(row.pending is None for row in rows)
    report = await care.doctor(NoParams(), ANYBODY)
    assert report.faults >= 2
    assert {"D-05", "D-15"} <= {row.number for row in report.items if row.level == "fault"}


async def test_tenants_are_refused(api: tuple[Home, CareApi]) -> None:
    _, care = api
    for handler in care.handlers().values():
        with pytest.raises(Forbidden):
            await handler(NoParams(), TENANT)
