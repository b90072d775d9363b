"""Links whose other side has vanished without a word: noticed in 15 s, whatever was under way."""

import math

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import Channel, PeerEvent
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import Have
from prsm.testnet.proxy import CLEAR, STALLED, Proxy
from tests.tools.networks import CHAIN

NOTICED_S = 15.0
HAVE = Have(size=5, leaves=1, bitset=b"\1")


class Lost:
    """When a network lost a peer, in trio's time."""

    def __init__(self, network: PeerNetwork) -> None:
        self.at = math.inf
        self.why = ""
        self.event = trio.Event()
        network.on_peer(self.told)

    def told(self, event: PeerEvent) -> None:
        if not event.up:
            self.at, self.why = trio.current_time(), event.why
            self.event.set()


@pytest.mark.parametrize("age_s", [0.5 * step for step in range(21)])
async def test_silent_peer_is_noticed_whenever_it_falls_silent(
    age_s: float, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """In each phase of the heartbeats; a cut of one connection tells at once."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    one, two = (hub.network(bytes([n]) * 32, CHAIN) for n in (1, 2))
    lost = [Lost(one), Lost(two)]
    for network in (one, two):
        await nursery.start(network.run)
    await one.connect(two.addresses[0])
    await trio.sleep(age_s)
    began = trio.current_time()
    hub.stall(one.peer_id, two.peer_id)
    with trio.fail_after(NOTICED_S + 0.1):
        for each in lost:
            await each.event.wait()
    assert max(each.at for each in lost) - began <= NOTICED_S
    assert "heartbeats" in lost[0].why
    nursery.cancel_scope.cancel()


async def test_peer_that_takes_nothing_is_dropped_by_the_deadline_of_a_write(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """What is written stays on the way: ten seconds for a slice, not for the whole."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    one, two = (hub.network(bytes([n]) * 32, CHAIN) for n in (1, 2))
    lost = Lost(one)
    for network in (one, two):
        await nursery.start(network.run)
    await one.connect(two.addresses[0])
    hub.stall(one.peer_id, two.peer_id)
    began = trio.current_time()
    assert one.send_nowait(two.peer_id, HAVE, channel=Channel.BULK, tail=bytes(2 * MIB))
    with trio.fail_after(NOTICED_S):
        await lost.event.wait()
    assert lost.at - began <= 10.0
    assert "a write took over 10 s" in lost.why
    nursery.cancel_scope.cancel()


async def test_peer_that_greets_and_stops_is_let_go(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A connection without a hello is closed after 5 s, on the side that waits for it."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    one, two = (hub.network(bytes([n]) * 32, CHAIN) for n in (1, 2))
    for network in (one, two):
        await nursery.start(network.run)
    transport = hub.transport(b"\3" * 32)
    connection = await transport.dial(two.peer_id, two.addresses[0])
    began = trio.current_time()
    stream = await connection.stream(Channel.CTL)
    with pytest.raises(Exception, match="gone"):
        await stream.read_some(1)
    assert trio.current_time() - began <= 5.1
    nursery.cancel_scope.cancel()


@pytest.mark.long
@pytest.mark.slow
async def test_silent_socket_is_noticed(nursery: trio.Nursery) -> None:
    """Over libp2p and real sockets, with a proxy between that keeps everything."""
    proxy = Proxy.bind(2)
    chain = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
    one, two = (
        libp2p_network(bytes([n]) * 32, chain, listen=["/ip4/127.0.0.1/tcp/0"]) for n in (1, 2)
    )
    lost = [Lost(one), Lost(two)]
    for network in (one, two):
        await nursery.start(network.run)
    ports = [int(network.addresses[0].split("/")[4]) for network in (one, two)]
    await nursery.start(proxy.run, ports)
    await one.connect(f"/ip4/127.0.0.1/tcp/{proxy.port(0, 1)}/p2p/{two.peer_id}")
    await trio.sleep(1.0)
    began = trio.current_time()
    proxy.set_all(STALLED)
    with trio.fail_after(NOTICED_S + 2):
        for each in lost:
            await each.event.wait()
    assert max(each.at for each in lost) - began <= NOTICED_S + 0.2
    proxy.set_all(CLEAR)
    nursery.cancel_scope.cancel()
