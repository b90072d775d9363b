"""net_: bans by JSON-RPC."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.protocol.errors import WireError
from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_operator_bans_and_pardons(site: Site) -> None:
    peer = site.cluster.labs[1].peer
    made = await site.ask("net_ban", peer_id=peer, seconds=600, why="noise")
    assert (made["peer_id"], made["why"], made["times"], made["by_operator"]) == (
        peer,
        "noise",
        0,
        True,
    )
    assert (await site.ask("net_getBans"))["items"] == [made]
    where = f"/ip4/127.0.0.1/tcp/10001/p2p/{peer}"
    assert await site.refused("net_connect", address=where) == (-32050, "peer_unreachable")
    assert (await site.ask("net_unban", peer_id=peer))["was_known"]
    assert (await site.ask("net_getBans"))["items"] == []
    assert not (await site.ask("net_unban", peer_id=peer))["was_known"]


async def test_earned_ban_is_shown_with_its_count(site: Site) -> None:
    peer = site.cluster.labs[1].peer
    site.parts.driver.network.penalise(peer, WireError("a forged block", penalty=100))
    shown = (await site.ask("net_getBans"))["items"]
    assert [(ban["why"], ban["times"], ban["by_operator"]) for ban in shown] == [
        ("a forged block", 1, False)
    ]


async def test_what_cannot_be_banned_is_refused(site: Site) -> None:
    """This node, no peer id, no time."""
    own = site.parts.driver.network.peer_id
    assert (await site.refused("net_ban", peer_id=own))[1] == "invalid_params"
    assert (await site.refused("net_ban", peer_id="nobody"))[1] == "invalid_params"
    peer = site.cluster.labs[1].peer
    assert (await site.refused("net_ban", peer_id=peer, seconds=0))[1] == "invalid_params"


async def test_load_is_counted(site: Site) -> None:
    load = await site.ask("net_getLoad")
    assert (load["peers_in"], load["peers_out"], load["dropped"], load["bans"]) == (0, 0, 0, 0)
    assert load["tasks"] > 5
    assert load["rss_bytes"] > 0
    assert load["memory_bytes"] == 2**30
    assert load["counts"]["sockets"] == 0
