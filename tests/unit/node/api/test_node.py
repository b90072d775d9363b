"""rpc_, node_, net_ and storage_ in JSON: the node about itself."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.node.rpc.methods.table import METHODS
from prsm.protocol.errors import WireError
from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_contract_versions_and_errors_are_told(site: Site) -> None:
    """Every method of the table, every row of the registry, the limits."""
    described = await site.ask("rpc_discover")
    assert {method["name"] for method in described["methods"]} == set(METHODS)
    info = await site.ask("rpc_getInfo")
    assert (info["network"], info["methods"]) == ("test", len(METHODS))
    reasons = {row["reason"]: row["code"] for row in (await site.ask("rpc_listErrors"))["items"]}
    assert reasons["wallet_locked"] == -32002
    assert (await site.ask("rpc_ping"))["time"].endswith("Z")


async def test_status_is_of_this_process(site: Site) -> None:
    """Pid, wallet, peers, memory; each part is named."""
    status = await site.ask("node_getStatus")
    assert status["pid"] == os.getpid()
    assert status["validator"]
    assert status["wallet_unlocked"]
    assert status["rss_bytes"] > 10**6
    assert {part["name"] for part in status["parts"]} >= {"network", "consensus", "sync", "wallet"}
    assert all(part["state"] == "running" for part in status["parts"])


async def test_status_says_why_consensus_stopped(site: Site) -> None:
    """A stopped driver is no secret, and the rest is answered as before."""
    site.parts.driver._stop_voting("the disk refused a write: full", OSError("full"))
    status = await site.ask("node_getStatus")
    part = next(part for part in status["parts"] if part["name"] == "consensus")
    assert (part["state"], part["why"]) == ("stopped", "the disk refused a write: full")
    assert (await site.ask("chain_getStatus"))["network"] == "test"


async def test_status_counts_restarts(site: Site) -> None:
    """A room that crashed and came back shows it."""
    keeper = site.parts.keepers["sync"]
    keeper.restarts, keeper.last_error = 2, "ValueError: x"
    status = await site.ask("node_getStatus")
    part = next(part for part in status["parts"] if part["name"] == "sync")
    assert (part["restarts"], part["why"]) == (2, "ValueError: x")


async def test_stop_is_heard(site: Site) -> None:
    """The daemon is told, and says that it is stopping."""
    assert (await site.ask("node_stop"))["pid"] == os.getpid()
    assert site.stopped.is_set()
    assert (await site.ask("node_getStatus"))["state"] == "stopping"


async def test_addresses_that_lead_nowhere_are_refused(site: Site) -> None:
    """No address, our own, and one where nobody answers."""
    assert await site.refused("net_connect", address="nowhere") == (-32602, "invalid_params")
    own = site.parts.driver.network.addresses[0]
    assert await site.refused("net_connect", address=own) == (-32602, "invalid_params")
    absent = site.cluster.hub.address(site.cluster.labs[0].peer).replace(
        site.cluster.labs[0].peer, site.cluster.labs[1].peer
    )
    assert await site.refused("net_connect", address=absent) == (-32050, "peer_unreachable")
    assert (await site.ask("net_getPeers"))["items"] == []


async def test_storage_is_counted(site: Site) -> None:
    """Empty, with its quota."""
    stats = await site.ask("storage_getStats")
    assert (stats["files"], stats["models"], stats["quota_bytes"]) == (0, 0, 2**24)


async def test_banned_peers_are_named(site: Site) -> None:
    """Who, until when, and for what; it is no live peer."""
    peer = site.cluster.labs[1].peer
    fault = WireError("a certificate that does not hold", penalty=100)
    site.parts.driver.network.penalise(peer, fault)
    shown = await site.ask("net_getPeers")
    assert shown["items"] == []
    assert [(ban["peer_id"], ban["why"]) for ban in shown["banned"]] == [(peer, fault.what)]
    assert shown["banned"][0]["until"].endswith("Z")
