"""The peers a node is configured with: dialled at a start, left once it has found others.

Knows their addresses as they were written, with DNS names, and how they are reached. Must not know
how others are found (`node/peers/discovery`), nor when they are left (`node/net/seeds`). Validators
keep those among them that are validators.
"""

import socket
from collections.abc import Callable, Collection, Sequence
from typing import Final

import trio

from prsm.node.net.addresses import Kind
from prsm.node.net.entry import PeerFull
from prsm.node.net.interface import Network, PeerUnreachable
from prsm.node.net.seeds import TURNED_AWAY_MS, Seeds
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.identity import is_named, parse_name, peer_in
from prsm.protocol.ids import PeerId

log = logs.get("bootstrap")

REDIAL_SECONDS: Final = 2.0  # a configured peer that never answered yet
RESOLVE_SECONDS: Final = 5.0
REFUSED_SECONDS: Final = 60.0  # one that refuses this node: its owner may change that

Note = Callable[[str, Kind], None]  # an address that answered, and how it was written
Hear = Callable[[str, Sequence[str]], None]  # who had no place, and whom it named instead


class Bootstrap:
    """Keeps the configured peers linked while they are needed.

    Args:
        network: where.
        addresses: as configured; our own may be among them.
        seeds: decides whether they are needed.
        stay: peers that are never left.
    """

    def __init__(
        self,
        network: Network,
        addresses: Sequence[str],
        seeds: Seeds[PeerId],
        *,
        stay: Callable[[], Collection[PeerId]],
    ) -> None:
        self._network = network
        self._seeds = seeds
        self._stay = stay
        # One list may go to all nodes of a network.
        self.addresses = tuple(at for at in addresses if peer_in(at) != network.peer_id)
        self.peers = frozenset(peer_in(address) for address in self.addresses)
        self.note: Note = lambda _address, _kind: None
        self.hear: Hear = lambda _address, _others: None
        self._changed = trio.lowlevel.ParkingLot()

    def start(self, nursery: trio.Nursery) -> None:
        """Dial them."""
        for address in self.addresses:
            nursery.start_soon(self._keep, address)

    def look(self, chosen: int, *, now_ms: int) -> None:
        """Leave them, or come back, as the number of links of our own choice says."""
        linked = [info.peer for info in self._network.peers() if info.peer in self.peers]
        if self._seeds.look(chosen, linked, now_ms=now_ms) and self.addresses:
            log.info("bootstrap peers are needed", needed=not self._seeds.are_left, links=chosen)
            self._changed.unpark_all()

    def is_left(self, peer: PeerId) -> bool:
        """Whether a configured peer need not be linked now."""
        return self._seeds.is_left(peer) and peer not in self._stay()

    async def _keep(self, address: str) -> None:
        peer = peer_in(address)
        while True:
            pause = await self._dial(address)
            while not self.is_left(peer) and pause is None:
                await self._changed.park()  # the network redials
            if pause is not None and not self.is_left(peer):
                with trio.move_on_after(pause):
                    await self._changed.park()
            if self.is_left(peer):
                await self._leave(peer)
                while self.is_left(peer):
                    await self._changed.park()

    async def _leave(self, peer: PeerId) -> None:
        info = next((info for info in self._network.peers() if info.peer == peer), None)
        if info is None or info.outbound:  # one that it made itself is its own to keep
            await self._network.disconnect(peer)

    async def _dial(self, address: str) -> float | None:
        """Dial once; seconds until it is worth another time, None: the peer is linked."""
        found = address
        try:
            found = await resolve(address)
            await self._network.connect(found)
        except PeerFull as error:
            log.debug("bootstrap peer has no place", address=address, others=len(error.others))
            self.hear(found, error.others)
            await self._network.disconnect(peer_in(address))  # or it were dialled on and on
            return TURNED_AWAY_MS / 1000
        except (LocalError, RemoteError) as error:
            told = {"address": address, "why": error.what, "hint": error.hint}
            if isinstance(error, PeerUnreachable) and not error.hint:
                log.debug("bootstrap peer does not answer", **told)
                return REDIAL_SECONDS
            # Another network, key or allow-list: a person must do something.
            log.error("bootstrap peer refused", **told)  # noqa: TRY400 - no traceback for a person
            return REFUSED_SECONDS
        self.note(found, Kind.DNS if is_named(address) else Kind.CONFIGURED)
        return None


async def resolve(address: str) -> str:
    """The address with an ip in the place of a DNS name, if it holds one.

    Raises:
        PeerUnreachable: the name leads nowhere now.
    """
    if not is_named(address):
        return address
    named = parse_name(address)
    family = socket.AF_INET6 if named.family == "dns6" else socket.AF_INET
    try:
        with trio.fail_after(RESOLVE_SECONDS):
            found = await trio.socket.getaddrinfo(
                named.name, named.port, family=family, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        raise PeerUnreachable(f"the name {named.name} leads nowhere: {error}") from error
    return named.at(str(found[0][4][0]))
