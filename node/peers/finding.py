"""Finding peers, put together: discovery with the validators, the local network, holders.

Knows: what each of these parts is made of, from the configuration and the chain. Must not know:
how they work. Multicast DNS is loaded only where it is switched on.
"""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from random import SystemRandom

import trio

from prsm.node.chain.driver import Driver
from prsm.node.config.schema import NetConfig
from prsm.node.net.addresses import Kind
from prsm.node.net.blocks import BlockShelf
from prsm.node.net.interface import Network
from prsm.node.net.places import Place
from prsm.node.peers.announce import Announcer
from prsm.node.peers.discovery import Agreement, Aims, Discovery
from prsm.node.peers.holders import Holders
from prsm.node.peers.recruits import Recruits
from prsm.node.supervise import Supervisor
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import CAPACITY


class Finding:
    """What looks for peers in a node.

    Args:
        network: not running yet.
        net: the owner's section of the configuration.
        driver: of the chain: who validates, and whether it goes on.
        genesis: of the network.
        path: file of the address book.
    """

    holders: Holders

    def __init__(
        self, network: Network, net: NetConfig, driver: Driver, genesis: Genesis, path: Path
    ) -> None:
        aims = Aims(
            bootstrap=net.bootstrap,
            announce=net.announce,
            outbound=net.outbound,
            region=net.region,
            trusted=frozenset(map(PeerId, net.trusted)),
        )
        self._network = network
        self._driver = driver
        self._chain = genesis.chain_id
        self._is_local = net.mdns
        self.discovery = Discovery(network, aims, path, clock=driver.clock, dice=SystemRandom())
        parameters = genesis.parameters
        self.discovery.agreement = Agreement(
            members=lambda: [PeerId(member.peer_id) for member in driver.validators.validators],
            patience_ms=parameters.heartbeat_block_ms + 3 * parameters.timeout_base_ms,
        )
        driver.on_head.append(lambda _head: self.discovery.heard_certificate())

    def serve(self, shelf: BlockShelf, announced: Callable[[bytes], Collection[PeerId]]) -> None:
        """Answer who holds what; once, before the network runs.

        Args:
            shelf: what this node holds.
            announced: peers that announced to hold a manifest.
        """
        network, clock = self._network, self._driver.clock
        self.holders = Holders(network, shelf, self.discovery, announced, clock=clock)

    def recruits(self, announcer: Announcer) -> Recruits:
        """Who is dialled for work when the workers that are linked are too few; after `serve`.

        Args:
            announcer: what it heard.
        """
        heard = functools.partial(announcer.current, CAPACITY.name)
        return Recruits(self._network, self.discovery, self.holders, heard)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for peers until cancelled; the network must run."""
        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor("discovery").run, self.discovery.run)
            await nursery.start(Supervisor("holders").run, self.holders.run)
            if self._is_local:
                nursery.start_soon(Supervisor("mdns").run, self._hear_local)
            task_status.started()

    async def _hear_local(self, *, task_status: trio.TaskStatus[None]) -> None:
        # Loads a library of compiled parts that most nodes never need.
        from prsm.node.peers.mdns import Card, Mdns  # noqa: PLC0415 - see above

        def hear(place: Place) -> None:
            self.discovery.hear(place, source="mdns", kind=Kind.MDNS)

        task_status.started()  # a network without multicast is no reason not to start
        card = Card(self._network.peer_id, self._chain, self.discovery.own_addresses)
        await Mdns(card, hear, clock=self._driver.clock).run()
