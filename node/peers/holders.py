"""Who holds a model: hints between peers, for a root that no linked peer is known to hold.

Knows the two calls, the address book and who announced what. Must not know what is fetched: a
hint only leads to a link; every block is hashed (`storage/fetch/exchange`). This stands in for the
provider records of kad-dht, which cannot be fenced (docs/adr/0009). Bounds: so many peers asked,
so many hints of each, so many dials; a link made for this is given up after a while.

Source: docs/spec/wire.md, "Finding peers".
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.net.blocks import BlockShelf
from prsm.node.net.interface import (
    Answer,
    Busy,
    CallRefused,
    Channel,
    Incoming,
    Network,
    PeerUnreachable,
)
from prsm.node.net.places import Place, Scope, may_tell, place_of, scope_of
from prsm.node.net.scores import TokenBuckets
from prsm.node.peers.discovery import Discovery
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import HOLDERS_TOLD_MAX
from prsm.protocol.messages.exchange import GetHolders, GotHolders
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import NotFound

log = logs.get("holders")

HINT: Final = "holders"  # whose hints these are
ASKED_MAX: Final = 16
ASK_SECONDS: Final = 3.0
DIALS_MAX: Final = 4
KEPT_SECONDS: Final = 600.0
LINKS_MAX: Final = 16  # made for this, at once
ANSWERS_BURST: Final = 16  # questions of one peer at once, then one a second
ASKERS_MAX: Final = 256


class Holders:
    """Answers who holds a root, and finds somebody who does.

    Args:
        network: not running yet.
        shelf: what this node holds.
        discovery: addresses, and where this node is dialled itself.
        announced: peers that announced to hold the root of these bytes, linked or not.
        clock: of the node.
    """

    def __init__(
        self,
        network: Network,
        shelf: BlockShelf,
        discovery: Discovery,
        announced: Callable[[bytes], Collection[PeerId]],
        *,
        clock: Clock,
    ) -> None:
        self._network = network
        self._shelf = shelf
        self._discovery = discovery
        self._announced = announced
        self._clock = clock
        self._links: OrderedDict[PeerId, float] = OrderedDict()  # until when (trio's time)
        self._askers = TokenBuckets(rate_per_s=1, burst=ANSWERS_BURST, peers_max=ASKERS_MAX)
        network.on_call(GetHolders, self._answer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Give up links that were made for a fetch long ago, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(KEPT_SECONDS / 10)
            for peer in tuple(self._links):  # fetches renew links and give up others meanwhile
                if self._links.get(peer, math.inf) <= trio.current_time():
                    await self._give_up(peer)

    async def seek(self, root: Cid) -> None:
        """Link to peers that may hold a root, unless one that announced it is linked already."""
        linked = {info.peer for info in self._network.peers()}
        announced = frozenset(self._announced(root.raw))
        if announced & linked:
            return
        known = [self._discovery.book.of_peer(peer) for peer in sorted(announced)]
        hints = [entries[0].place for entries in known if entries]
        await self.link(hints or await self._ask(root), seconds=KEPT_SECONDS)

    async def link(self, hints: Sequence[Place], *, seconds: float) -> int:
        """Link for a while to the first few that are not linked yet; how many there are now."""
        linked = {info.peer for info in self._network.peers()} | {self._network.peer_id}
        chosen = [hint for hint in hints if hint.peer not in linked][:DIALS_MAX]
        reached: set[PeerId] = set()
        async with trio.open_nursery() as nursery:
            for place in chosen:
                if self._discovery.is_trusted(place.peer):
                    nursery.start_soon(self._dial, place, seconds, reached)
        return len(reached)

    # -- asking

    async def _ask(self, root: Cid) -> list[Place]:
        found: dict[PeerId, Place] = {}

        async def ask(peer: PeerId, listener: Scope) -> None:
            with trio.move_on_after(ASK_SECONDS):
                for place in await self._hints_of(peer, root, listener):
                    found.setdefault(place.peer, place)

        async with trio.open_nursery() as nursery:
            for info in self._network.peers()[:ASKED_MAX]:
                nursery.start_soon(ask, info.peer, scope_of(info.address))
        return list(found.values())

    async def _hints_of(self, peer: PeerId, root: Cid, listener: Scope) -> list[Place]:
        try:
            answer, _ = await self._network.call(
                peer, GetHolders(root=root.raw), channel=Channel.CTL
            )
        except (PeerUnreachable, CallRefused, LocalError):
            return []
        except RemoteError as error:
            self._network.penalise(peer, error)
            return []
        texts = answer.addresses if isinstance(answer, GotHolders) else ()
        places = [place for text in texts if (place := _place(text))]
        return [place for place in places if may_tell(place.scope, listener)]

    async def _dial(self, place: Place, seconds: float, reached: set[PeerId]) -> None:
        """Follow a hint; a link is noted at once, the fetch may be cancelled while others hang."""
        try:
            await self._network.connect(place.text, hint=HINT)
        except (LocalError, RemoteError) as error:
            log.debug("a hint led nowhere", address=place.text, why=error.what)
            return
        reached.add(place.peer)
        self._links[place.peer] = trio.current_time() + seconds
        self._links.move_to_end(place.peer)
        while len(self._links) > LINKS_MAX:
            await self._give_up(next(iter(self._links)))

    async def _give_up(self, peer: PeerId) -> None:
        del self._links[peer]
        with trio.CancelScope(shield=True):  # or nobody would ever do it
            await self._network.disconnect(peer, hint=HINT)

    # -- answering

    async def _answer(self, incoming: Incoming) -> Answer:
        assert isinstance(incoming.message, GetHolders)
        if not self._askers.take(incoming.peer, now_ms=self._clock.monotonic_ms()):
            raise Busy("holders were asked for too often", retry_after_ms=1_000)
        infos = {info.peer: info for info in self._network.peers()}
        asker = infos.get(incoming.peer)
        listener = scope_of(asker.address) if asker else Scope.PUBLIC
        texts: list[str] = []
        if await self._holds(incoming.message.root):
            texts += self._discovery.own_addresses()
        for peer in sorted(frozenset(self._announced(incoming.message.root)) - {incoming.peer}):
            entries = self._discovery.book.of_peer(peer)
            texts += [entry.place.text for entry in entries[:1] if entry.last_success_ms]
        places = [place for text in texts if (place := _place(text))]
        told = [place.text for place in places if may_tell(place.scope, listener)]
        return GotHolders(addresses=tuple(told[:HOLDERS_TOLD_MAX])), b""

    async def _holds(self, root: bytes) -> bool:
        try:
            cid = decode_cid(root)
            try:
                await self._shelf.get_block(cid.digest)  # a manifest, mostly
            except NotFound:
                await self._shelf.have(cid)
        except (LocalError, RemoteError):  # no CID, or not here
            return False
        return True


def _place(text: str) -> Place | None:
    try:
        return place_of(text)
    except LocalError:
        return None
