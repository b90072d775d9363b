"""What a fenced host says of where it listens, and how often it works that out."""

import inspect

from libp2p.peer.peerstore import env_to_send_in_RPC
from multiaddr import Multiaddr

from prsm.node.net import guard
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId


def nobody(_peer: PeerId, _error: RemoteError) -> None:
    raise AssertionError("nobody is to blame")


class Bound:
    """A listener, as much of it as a host asks for."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = [Multiaddr(address) for address in addresses]
        self.asked = 0

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        self.asked += 1
        return tuple(self.addresses)


def test_addresses_are_worked_out_once_for_each_set_of_listeners() -> None:
    """Stock code asks for them with each envelope of gossip that leaves."""
    assert "for addr in host.get_addrs()" in inspect.getsource(env_to_send_in_RPC)
    host = guard.make_host(bytes(range(32)), nobody)
    listeners = vars(host.get_network())["listeners"]
    assert host.get_addrs() == []
    one = listeners["one"] = Bound()
    assert host.get_addrs() == []  # not bound yet: asked again
    one.addresses.append(Multiaddr("/ip4/127.0.0.1/tcp/4001"))
    told = host.get_addrs()
    assert [str(each) for each in told] == [f"/ip4/127.0.0.1/tcp/4001/p2p/{host.get_id()}"]
    asked = one.asked
    told.clear()  # the caller's own
    assert len(host.get_addrs()) == 1
    assert one.asked == asked
    listeners["two"] = Bound("/ip4/127.0.0.1/tcp/4002")
    assert len(host.get_addrs()) == 2
    del listeners["one"]
    assert [str(each).split("/")[4] for each in host.get_addrs()] == ["4002"]
