"""Nodes find one another over every implementation of the port `Network`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from prsm.node.net.interface import PeerUnreachable
from prsm.node.peers.discovery import Aims
from prsm.protocol.errors import LocalError
from tests.tools.finders import find
from tests.tools.networks import World


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


async def test_nodes_that_know_one_find_all(world: World) -> None:
    """Five nodes are told of one; each is linked to all others in the end."""
    seed = await find(world, 1)
    others = [
        await find(world, number, Aims(bootstrap=[seed.node.address])) for number in range(2, 6)
    ]
    for one in (seed, *others):
        await one.wait_linked([seed, *others])


async def test_node_without_configuration_dials_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []

    async def dial(peer: str, address: str) -> None:
        dialled.append(address)
        raise PeerUnreachable(f"{peer} is not asked")

    one = await find(world, 1)
    monkeypatch.setattr(one.node.network._transport, "dial", dial)
    with trio.move_on_after(0.7):
        await one.node.wait(lambda: bool(dialled))
    assert dialled == []
    assert one.linked == set()


async def test_node_finds_its_network_again_without_bootstrap(world: World, tmp_path: Path) -> None:
    """What it learned in its first run is enough for the second one."""
    path = tmp_path / "net" / "addresses"
    seed = await find(world, 1)
    aims = Aims(bootstrap=[seed.node.address])
    other, one = await find(world, 2, aims), await find(world, 3, aims, path=path)
    await one.wait_linked([seed, other])
    while not one.discovery.book.tried():  # noqa: ASYNC110 - a link is told before it is noted
        await trio.sleep(0.05)
    await one.stop()
    assert path.exists()
    again = await find(world, 3, path=path)
    await again.wait_linked([seed, other])


async def test_probe_proves_the_peer_and_leaves_no_link(world: World) -> None:
    one, two = await world.start(1), await world.start(2)
    assert await one.network.probe(two.address) == two.peer
    assert one.network.peers() == ()
    assert one.events == []
    await one.network.connect(two.address)
    assert await one.network.probe(two.address) == two.peer
    assert [info.peer for info in one.network.peers()] == [two.peer]


async def test_probe_of_another_peer_or_nobody_is_unreachable(world: World) -> None:
    one, two, three = [await world.start(number) for number in (1, 2, 3)]
    with pytest.raises(PeerUnreachable):
        await one.network.probe(two.address.replace(two.peer, three.peer))
    with pytest.raises(LocalError, match="this node"):
        await one.network.probe(one.address)
    two.scope.cancel()
    await two.stopped.wait()
