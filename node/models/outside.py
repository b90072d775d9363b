"""Sources of blocks outside this network, and how all sources do: IPFS peers, daemons, gateways.

Knows which keys of [storage] open which source, and the pool that ranks them. Must not know what
is fetched, or how a source moves bytes. Source: docs/spec/storage.md, "Pool".
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import structlog
import trio

from prsm.node.clock import Clock
from prsm.node.config.schema import StorageConfig
from prsm.node.net.bitswap.door import Door, DoorRules
from prsm.node.net.bitswap.peer import Shelf
from prsm.node.net.bitswap.source import BitswapSource
from prsm.node.net.interface import PeerEvent
from prsm.node.net.lanes import Lanes
from prsm.node.supervise import Supervisor
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.storage.interfaces import Source
from prsm.storage.sources.pool import Pool, SourceRow, Tier, load_health
from prsm.storage.sources.urls import checked_url

if TYPE_CHECKING:
    from prsm.storage.sources.ipfs_rpc import IpfsRpc

CHECK_DEADLINE_S: Final = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the outside meets this node.

    Attributes:
        seed: 32 bytes, the raw node key; the door's is made of it.
        lanes: what peers may use.
        clock: of the node.
        health: file of what is known about sources.
        trusted: peers that alone are let in; everybody if empty.
    """

    seed: bytes = field(repr=False)
    lanes: Lanes
    clock: Clock
    health: Path
    trusted: frozenset[PeerId] = frozenset()


class Outside:
    """Who is asked for blocks besides this network's peers, and the health of both.

    Args:
        config: [storage].
        shelf: what IPFS peers are served from.
        place: of this node.

    Raises:
        LocalError: a URL or an address that is none.
    """

    def __init__(self, config: StorageConfig, shelf: Shelf, place: Place) -> None:
        for url in (*config.ipfs_rpc, *config.gateways):
            checked_url(url)
        self._config = config
        self._health = place.health
        self._peers: set[str] = set()
        dice = Random(place.seed)  # noqa: S311 - spreads tries over time
        self.pool = Pool(place.clock.monotonic_ms, dice, saved=load_health(place.health))
        self.daemons: list[IpfsRpc] = []  # of the configuration, once they are open
        self.door: Door | None = None
        if config.bitswap and not config.offline:
            trusted = place.trusted
            rules = DoorRules(
                listen=config.bitswap_listen,
                peers=config.ipfs_peers,
                admits=lambda peer: not trusted or peer in trusted,
            )
            self.door = Door(place.seed, shelf, lanes=place.lanes, clock=place.clock, rules=rules)
            self.door.on_peer(self._changed)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open what the configuration names, until cancelled; started once it listens.

        Raises:
            LocalError: an address it cannot listen on.
        """
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            if not self._config.offline:
                await self._open(stack, nursery)
            if self.door is not None:
                await nursery.start(Supervisor("bitswap").run, self.door.run)
            await nursery.start(self.pool.run, self._health)
            task_status.started()
            await trio.sleep_forever()

    def sources(self, peers: Sequence[Source] = ()) -> Sequence[Source]:
        """Whom to ask now, class by class; those that failed often are left out.

        Args:
            peers: of this network, connected now; they stay in this order, since the caller knows
                who is said to hold something. All others come best first.
        """
        names = {source.name for source in peers}
        for gone in self._peers - names:
            self.pool.remove(gone)
        self._peers = names
        for source in peers:
            self.pool.add(source, Tier.PEER)
        ready = {source.name: source for source in self.pool.choose()}
        first = [ready.pop(source.name) for source in peers if source.name in ready]
        return [*first, *ready.values()]

    def blame(self, name: str, error: PrsmError) -> None:
        """Count what only the user of a source could see: bytes of another hash."""
        if isinstance(error, RemoteError):
            self.pool.blame(name, error)

    def rows(self) -> Sequence[SourceRow]:
        """All sources that are known now, class by class."""
        return self.pool.rows()

    def _changed(self, event: PeerEvent) -> None:
        assert self.door is not None
        source = BitswapSource(self.door.bitswap, event.peer)
        if event.up:
            self.pool.add(source, Tier.BITSWAP)
        else:
            self.pool.remove(source.name)

    async def _open(self, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        """Load what was configured only: both clients take megabytes most nodes never need."""
        self.daemons.clear()  # begun again after a crash
        if self._config.ipfs_rpc:
            from prsm.storage.sources.ipfs_rpc import IpfsRpc  # noqa: PLC0415 - see above

            for url in self._config.ipfs_rpc:
                daemon = IpfsRpc(url)
                self.pool.add(daemon, Tier.DAEMON)
                self.daemons.append(daemon)
                nursery.start_soon(_greet, daemon)
        if self._config.gateways:
            from prsm.storage.sources.gateway import open_gateways  # noqa: PLC0415 - see above

            for gateway in await stack.enter_async_context(open_gateways(self._config.gateways)):
                self.pool.add(gateway, Tier.GATEWAY)


async def _greet(daemon: "IpfsRpc") -> None:
    """Say in the log who answers; nobody may be there yet, which is no fault."""
    try:
        with trio.fail_after(CHECK_DEADLINE_S):
            found = await daemon.check()
    except (PrsmError, trio.TooSlowError) as error:
        log.warning("IPFS daemon does not answer", url=daemon.name, why=str(error))
        return
    log.info("IPFS daemon", url=daemon.name, version=found.version, peer=found.peer_id)
    for warning in found.warnings:
        log.warning(warning)
