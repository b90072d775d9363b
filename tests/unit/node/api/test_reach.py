"""net_getReach and net_getTopology by JSON-RPC: a node alone, and one with a peer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_node_alone_knows_nothing_of_its_reach(site: Site) -> None:
    state = await site.ask("net_getReach")
    assert (state["verdict"], state["ip"], state["announced"]) == ("unknown", None, [])
    assert state["listening"] == list(site.parts.driver.network.addresses)
    assert (state["seen"], state["dialled"], state["places"]) == ({}, {}, [])
    assert state["relay"] == {"serves": False, "places": [], "circuits": 0, "carried_bytes": 0}


async def test_node_alone_is_its_whole_topology(site: Site) -> None:
    found = await site.ask("net_getTopology")
    assert (found["one_sided"], found["silent"], found["links"]) == (0, 0, [])
    [node] = found["nodes"]
    assert node["peer_id"] == site.parts.driver.network.peer_id
    assert (node["region"], node["told_by"], node["links"]) == ("here", "this node", 0)


async def test_peer_that_tells_no_links_is_shown_as_silent(site: Site) -> None:
    """A node without the parts of reach: it refuses, and its link is shown from one end."""
    peer = site.cluster.network(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.run)
        await site.parts.driver.network.connect(site.cluster.hub.address(peer.peer_id))
        found = await site.ask("net_getTopology")
        peers = (await site.ask("net_getPeers"))["items"]
        nursery.cancel_scope.cancel()
    assert (found["one_sided"], found["silent"]) == (0, 1)
    silent = next(node for node in found["nodes"] if node["peer_id"] == peer.peer_id)
    assert silent["told_by"] == "nobody"
    assert "does not answer GetView" in silent["why"]
    [link] = found["links"]
    ends = {link["one"]: "one", link["other"]: "other"}
    us = ends[site.parts.driver.network.peer_id]
    assert (link["seen_by"], link["dialled_by"]) == (us, us)
    assert not link["relayed"]
    assert [each["relayed"] for each in peers] == [False]
