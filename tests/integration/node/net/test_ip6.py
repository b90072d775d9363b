"""Peers over IPv6: the node knows where they are, and counts them as it counts others."""

import socket

import pytest
import trio

from prsm.node.net.arrivals import Arrivals, Entry
from prsm.node.net.places import is_place, place_of
from tests.tools.networks import World


def has_ip6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ips whose sockets are judged from now on."""
    entered: list[str] = []
    enter = Arrivals.enter

    def note(own: Arrivals, ip: str, *, now_ms: int) -> Entry:
        entered.append(ip)
        return enter(own, ip, now_ms=now_ms)

    monkeypatch.setattr(Arrivals, "enter", note)
    return entered


@pytest.mark.skipif(not has_ip6(), reason="no IPv6 on this machine")
async def test_where_a_peer_is_over_ip6_is_known_and_counted(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libp2p reads the name of a socket only if it has two fields; that of IPv6 has four."""
    entered = noted(monkeypatch)
    world = World(nursery, "libp2p")
    world.listen[2] = "/ip6/::1/tcp/0"
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)
    await two.wait_up(one.peer)
    (there,), (here,) = one.network.peers(), two.network.peers()
    assert there.address == two.address
    assert is_place(there.address, place_of(two.address).text)
    assert here.address.startswith("/ip6/::1/tcp/")
    assert entered == ["::1"]
    nursery.cancel_scope.cancel()


@pytest.mark.skipif(not has_ip6(), reason="no IPv6 on this machine")
async def test_where_a_peer_is_that_dials_a_socket_of_both_by_ip4_is_known(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system names it ::ffff:127.0.0.1; nobody can be dialled there."""
    entered = noted(monkeypatch)
    world = World(nursery, "libp2p")
    world.listen[2] = "/ip6/::/tcp/0"
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address.replace("/ip6/::/", "/ip4/127.0.0.1/"))
    await two.wait_up(one.peer)
    (here,) = two.network.peers()
    assert here.address.startswith("/ip4/127.0.0.1/tcp/")
    assert place_of(here.address).peer == one.peer
    assert entered == ["127.0.0.1"]
    nursery.cancel_scope.cancel()
