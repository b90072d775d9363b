"""Places for peers: those who dial us cannot take the ones kept for whom we dial."""

import trio
from trio.testing import MockClock

from prsm.node.net.entry import INBOUND_MAX, OUTBOUND_KEPT
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from tests.tools.networks import CHAIN


async def test_crowd_that_dials_leaves_room_for_those_we_dial(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """120 come in, the next is turned away, and the node still reaches eight of its own choice."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()

    async def start(number: int) -> PeerNetwork:
        network = hub.network(number.to_bytes(32, "big"), CHAIN)
        await nursery.start(network.run)
        return network

    victim = await start(0)
    crowd = [await start(1 + number) for number in range(INBOUND_MAX + 5)]
    for each in crowd:
        nursery.start_soon(dial, each, victim.addresses[0])
    await trio.sleep(5)
    assert len(victim.peers()) == INBOUND_MAX
    assert not any(info.outbound for info in victim.peers())
    for number in range(OUTBOUND_KEPT):
        own = await start(1000 + number)
        await victim.connect(own.addresses[0])
    assert sum(info.outbound for info in victim.peers()) == OUTBOUND_KEPT
    assert len(victim.peers()) == INBOUND_MAX + OUTBOUND_KEPT
    nursery.cancel_scope.cancel()


async def dial(network: PeerNetwork, address: str) -> None:
    """Connect; a refusal shows at the other end."""
    try:
        await network.connect(address)
    except Exception:  # noqa: BLE001 - turned away
        return
