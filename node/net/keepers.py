"""The addresses a node wants links to, and the tasks that dial them again.

Knows who is wanted, by whom and where. Must not know what a link is, nor how long a pause is
(`node/net/redials`). One task a wanted peer: it waits while the peer is linked.

Invariants: a peer is wanted until nobody is left who wants it, and each ends only its own wish; a
hint, which may be a stranger's word, becomes a wish when it led to a link, and an address that the
owner gave goes before that of a hint. At most one task a peer, also while it is being ended.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from prsm.node.net.entry import PeerFull
from prsm.node.net.handshake import OlderPeer, ProtocolMismatch
from prsm.node.net.redials import REFUSED_S, Redials
from prsm.protocol.errors import PrsmError, WrongChain
from prsm.protocol.ids import PeerId

VIA: Final = "via"  # a wish that follows what the owner wrote: relays where a place is kept
FINAL: Final = (WrongChain, ProtocolMismatch)  # until a person does something

log = logging.getLogger(__name__)


class Keepers:
    """Keeps the wanted peers linked.

    Args:
        us: our own identity.
        reach: links to a wanted peer at an address, unless it is linked.
        is_linked: whether it is.
    """

    def __init__(
        self,
        us: PeerId,
        reach: Callable[[PeerId, str], Awaitable[None]],
        is_linked: Callable[[PeerId], bool],
    ) -> None:
        self._owners: dict[PeerId, dict[str, str]] = {}  # who wants it, and where
        self._trying: Counter[PeerId] = Counter()  # `connect`s under way
        self._reach = reach
        self._is_linked = is_linked
        self._redials = Redials(us)
        self._scopes: dict[PeerId, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._lost = trio.lowlevel.ParkingLot()
        self._hastened = trio.lowlevel.ParkingLot()

    @property
    def wanted(self) -> dict[PeerId, str]:
        """Who is dialled again when it is lost, and where."""
        return {peer: _first(owners) for peer, owners in self._owners.items()}

    def is_wanted(self, peer: PeerId) -> bool:
        """Whether anybody wants a peer, or dials it now."""
        return peer in self._owners or peer in self._trying

    def start(self, nursery: trio.Nursery) -> None:
        """Begin, with what is wanted already; until `stop`."""
        self._nursery = nursery
        for peer in self._owners:
            self._begin(peer)

    def stop(self) -> None:
        """The nursery ends."""
        self._nursery = None

    async def connect(self, peer: PeerId, address: str, *, hint: str = "") -> None:
        """Link to a peer now, and keep it linked.

        Args:
            peer: who it has to be.
            address: where.
            hint: which part of the node follows one; empty: the owner decided. What a hint did
                not lead to is not kept, and neither is what nobody waited for.

        Raises:
            PeerUnreachable: not now; it is dialled again in the background, but after a hint.
            WrongChain, ProtocolMismatch: it is not dialled again, unless others want it.
        """
        self._trying[peer] += 1
        try:
            await self._reach(peer, address)
        except FINAL:
            self.forget(peer, hint=hint)
            raise
        except PrsmError:
            if not hint:
                self._want(peer, address, hint)
            raise
        else:
            self._want(peer, address, hint)
        finally:
            self._trying[peer] -= 1
            if not self._trying[peer]:
                del self._trying[peer]

    def forget(self, peer: PeerId, *, hint: str = "") -> bool:
        """End what the owner wants, or a part of the node that followed a hint.

        Returns:
            Whether nobody wants the peer now.
        """
        owners = self._owners.get(peer, {})
        owners.pop(hint, None)
        if not owners:
            self._end(peer)
        return not self.is_wanted(peer)

    def hear(self) -> None:
        """A link came up: others may be there again, too, or it is one that is waited for."""
        self._redials.hear(now_s=trio.current_time())
        self._hastened.unpark_all()

    def lose(self) -> None:
        """A link was lost: dial it again if it is wanted."""
        self._lost.unpark_all()

    def _want(self, peer: PeerId, address: str, owner: str) -> None:
        self._owners.setdefault(peer, {})[owner] = address
        self._begin(peer)

    def _end(self, peer: PeerId) -> None:
        self._owners.pop(peer, None)
        if scope := self._scopes.get(peer):
            scope.cancel()

    def _begin(self, peer: PeerId) -> None:
        """Have a task keep a peer; one that is being ended goes on instead."""
        if self._nursery is not None and peer not in self._scopes:
            self._scopes[peer] = trio.CancelScope()
            self._nursery.start_soon(self._keep, peer)

    async def _keep(self, peer: PeerId) -> None:
        try:
            while peer in self._owners:
                with self._scopes[peer]:
                    while peer in self._owners:
                        if self._is_linked(peer):
                            await self._lost.park()
                        else:
                            await self._dial(peer)
                self._scopes[peer] = trio.CancelScope()  # wanted anew before it had ended
        finally:
            del self._scopes[peer]

    async def _dial(self, peer: PeerId) -> None:
        """Dial a peer until it is linked."""
        redials = self._redials
        redials.begin(peer, now_s=trio.current_time())
        try:
            while not self._is_linked(peer):
                if (due_s := redials.due_s(peer)) > trio.current_time():
                    with trio.move_on_at(due_s):
                        await self._hastened.park()
                    continue
                if not (owners := self._owners.get(peer)):
                    return  # ended in the moment it was due
                redials.start(peer, now_s=trio.current_time())
                try:
                    await self._reach(peer, _first(owners))
                except FINAL as error:
                    if not self._keep_refused(peer, error):
                        return
                    redials.refuse(peer, now_s=trio.current_time())
                except OlderPeer:
                    redials.begin(peer, now_s=trio.current_time())
                except PrsmError as error:
                    is_full = isinstance(error, PeerFull)
                    redials.fail(peer, now_s=trio.current_time(), is_full=is_full)
                    again_s = redials.due_s(peer) - trio.current_time()
                    log.info("peer %s: %s; again in %.1f s", peer, error.what, again_s)
        finally:
            redials.end(peer)

    def _keep_refused(self, peer: PeerId, error: PrsmError) -> bool:
        """End what hints began. What the owner wrote stays: either node may be upgraded yet."""
        owners = self._owners.get(peer, {})
        kept = {name: address for name, address in owners.items() if name in {"", VIA}}
        if not kept:
            log.error("peer %s is not dialled again: %s", peer, error.what)
            self._owners.pop(peer, None)
            return False
        self._owners[peer] = kept
        log.error("peer %s: %s; again in %.0f s", peer, error.what, REFUSED_S)
        return True


def _first(owners: dict[str, str]) -> str:
    """Where to dial: where the owner said, or wrote, or where the oldest of the hints led."""
    return next(owners[name] for name in ("", VIA, *owners) if name in owners)
