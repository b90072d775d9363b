"""How this node is reached and reaches others: relaying, places at relays, dials back, its view.

Knows the parts and how they are joined: what is found out decides whether places at relays are
kept, and what others are told as this node's addresses. Must not know the daemon.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from prsm.node.clock import Clock
from prsm.node.config.schema import NetConfig
from prsm.node.net.behind import Behind, Carrier
from prsm.node.net.circuit import Circuits
from prsm.node.net.dialback import DialBacks
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.relay import Relay, RelayRules
from prsm.node.net.topology import Topology
from prsm.node.net.tunnel import Tunnels


@dataclass(frozen=True, slots=True)
class ReachConfig:
    """What the owner of a node decides.

    Attributes:
        relay: bounds of what it carries for others; None: nothing.
        via: addresses of relays where it always keeps a place.
        region: label shown to peers.
    """

    relay: RelayRules | None = None
    via: Sequence[str] = ()
    region: str = ""


class Reach:
    """All parts of reach, joined.

    Args:
        network: not running yet.
        carrier: makes connections of circuits: the transport of that network.
        listening: where the transport listens, with /p2p/.
        config: of the owner.
        now_ms: monotonic clock of the node.
    """

    def __init__(
        self,
        network: PeerNetwork,
        carrier: Carrier,
        *,
        listening: Callable[[], Sequence[str]],
        config: ReachConfig,
        now_ms: Callable[[], int],
    ) -> None:
        self.us = network.peer_id
        self._listening = listening
        circuits = Circuits(network)
        self.relay = Relay(network, circuits, now_ms=now_ms, rules=config.relay)
        self.behind = Behind(network, circuits, carrier, now_ms=now_ms, via=config.via)
        self.dialbacks = DialBacks(
            network,
            probe=network.probe,
            listening=listening,
            need=lambda is_needed: self.behind.need(is_needed=is_needed),
            now_ms=now_ms,
        )
        self.topology = Topology(network, region=config.region, now_ms=now_ms)
        network.extend(self.behind.dial, self.addresses, circuits.held)

    def listening(self) -> tuple[str, ...]:
        """Where the transport listens."""
        return tuple(self._listening())

    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled, beside the addresses it listens on."""
        return (*self.dialbacks.addresses(), *self.behind.addresses())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            for part in (self.relay, self.behind, self.dialbacks, self.topology):
                await nursery.start(part.run)
            task_status.started()


def open_reach(
    network: PeerNetwork, transport: Libp2pTransport, net: NetConfig, clock: Clock
) -> Reach:
    """Make the parts of reach of a node over libp2p, as its owner configured them."""
    return Reach(
        network,
        Tunnels(transport),
        listening=lambda: transport.addresses,
        config=ReachConfig(
            relay=RelayRules() if net.relay else None, via=net.via, region=net.region
        ),
        now_ms=clock.monotonic_ms,
    )
