"""A place that banned peers come from, over sockets: newcomers take turns, and all get in."""

import pytest
import trio

from prsm.node.net import suspects
from prsm.node.net.guard import FencedSwarm
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.suspects import OFFENCES_FORGIVEN
from prsm.testnet.hostile import Gone, Hostile

pytestmark = pytest.mark.slow
CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
GAP_MS = 150


def made(number: int) -> tuple[Libp2pTransport, PeerNetwork]:
    transport = Libp2pTransport(bytes([number]) * 32, listen=["/ip4/127.0.0.1/tcp/0"])
    return transport, PeerNetwork(transport, CHAIN)


async def test_honest_newcomers_get_in_one_after_the_other(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine strangers are banned, one of them comes again; then three honest ones come."""
    monkeypatch.setattr(suspects, "GAP_MS", GAP_MS)
    with trio.fail_after(20):
        transport, victim = made(1)
        await nursery.start(victim.run)
        port = int(victim.addresses[0].split("/")[4])
        for number in range(OFFENCES_FORGIVEN + 1):
            seed = bytes([100 + number]) * 32
            async with Hostile.dial(seed, port, victim.peer_id) as hostile:
                await hostile.shake_hands(CHAIN)
                await hostile.frame(9)
                await hostile.wait_end()
        assert len(victim.bans()) == OFFENCES_FORGIVEN + 1
        swarm, _ = transport.running()
        assert isinstance(swarm, FencedSwarm)
        assert len(swarm.arrivals.suspects) == 1
        with pytest.raises(Gone):
            async with Hostile.dial(bytes([100]) * 32, port, victim.peer_id) as hostile:
                await hostile.shake_hands(CHAIN)
        took = []
        for number in range(2, 5):
            _, honest = made(number)
            await nursery.start(honest.run)
            began = trio.current_time()
            await honest.connect(victim.addresses[0])
            took.append(trio.current_time() - began)
        assert sum(took) >= 2 * GAP_MS / 1000
        assert max(took) < 3
        nursery.cancel_scope.cancel()
