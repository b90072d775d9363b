"""The addresses a node wants links to, and the tasks that dial them again.

Knows who is wanted and where. Must not know what a link is, nor how long a pause is
(`node/net/redials`). One task a wanted peer: it waits while the peer is linked.

Invariants: a hint, which may be a stranger's word, neither moves nor ends what is wanted already;
what a hint began ends with its failure.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from prsm.node.net.entry import PeerFull
from prsm.node.net.handshake import OlderPeer, ProtocolMismatch
from prsm.node.net.redials import Redials
from prsm.protocol.errors import PrsmError, WrongChain
from prsm.protocol.ids import PeerId

FINAL: Final = (WrongChain, ProtocolMismatch)  # after these a peer is not dialled again

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
        self.wanted: dict[PeerId, str] = {}
        self._hinted: set[PeerId] = set()  # of them: begun by a hint, and wanted by nobody else
        self._reach = reach
        self._is_linked = is_linked
        self._redials = Redials(us)
        self._scopes: dict[PeerId, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._lost = trio.lowlevel.ParkingLot()
        self._hastened = trio.lowlevel.ParkingLot()

    def start(self, nursery: trio.Nursery) -> None:
        """Begin, with what is wanted already; until `stop`."""
        self._nursery = nursery
        for peer in self.wanted:
            nursery.start_soon(self._keep, peer)

    def stop(self) -> None:
        """The nursery ends."""
        self._nursery = None

    async def connect(self, peer: PeerId, address: str, *, is_hint: bool = False) -> None:
        """Link to a peer now, and keep it linked.

        Args:
            peer: who it has to be.
            address: where; of a peer that is wanted already a hint is tried once.
            is_hint: nobody who decides gave it: a failure ends what it began, and only that.

        Raises:
            PeerUnreachable: not now; it is dialled again in the background, but after a hint.
            WrongChain, ProtocolMismatch: it is not dialled again.
        """
        if is_hint and peer in self.wanted:
            await self._reach(peer, address)
            return
        known, was_hinted = peer in self.wanted, peer in self._hinted
        self.wanted[peer] = address
        (self._hinted.add if is_hint else self._hinted.discard)(peer)
        try:
            await self._reach(peer, address)
        except FINAL:
            self.forget(peer, is_hint=is_hint)
            raise
        except trio.Cancelled:  # nobody waits for it any more
            if not known:
                self.forget(peer, is_hint=is_hint)
            elif was_hinted and peer in self.wanted:
                self._hinted.add(peer)
            raise
        except PrsmError:
            if is_hint:
                self.forget(peer, is_hint=True)
            raise
        finally:
            if not known and peer in self.wanted and self._nursery is not None:
                self._nursery.start_soon(self._keep, peer)

    def forget(self, peer: PeerId, *, is_hint: bool = False) -> bool:
        """Want a peer no more, for a hint's sake only what that began; whether nobody does now."""
        if is_hint and peer in self.wanted and peer not in self._hinted:
            return False
        self.wanted.pop(peer, None)
        self._hinted.discard(peer)
        if scope := self._scopes.pop(peer, None):
            scope.cancel()
        return True

    def hear(self) -> None:
        """A link came up: others may be there again, too."""
        if self._redials.hear(now_s=trio.current_time()):
            self._hastened.unpark_all()

    def lose(self) -> None:
        """A link was lost: dial it again if it is wanted."""
        self._lost.unpark_all()

    async def _keep(self, peer: PeerId) -> None:
        with trio.CancelScope() as scope:
            self._scopes[peer] = scope
            while peer in self.wanted:
                if self._is_linked(peer):
                    await self._lost.park()
                else:
                    await self._dial(peer)
        if self._scopes.get(peer) is scope:
            del self._scopes[peer]

    async def _dial(self, peer: PeerId) -> None:
        """Dial a peer until it is linked."""
        redials = self._redials
        redials.begin(peer, now_s=trio.current_time())
        try:
            while peer in self.wanted and not self._is_linked(peer):
                while (due_s := redials.due_s(peer)) > trio.current_time():
                    with trio.move_on_at(due_s):
                        await self._hastened.park()
                redials.start(peer, now_s=trio.current_time())
                try:
                    await self._reach(peer, self.wanted[peer])
                except FINAL as error:
                    log.error("peer %s is not dialled again: %s", peer, error.what)  # noqa: TRY400 - no traceback
                    self.wanted.pop(peer, None)
                    self._hinted.discard(peer)
                except OlderPeer:
                    redials.begin(peer, now_s=trio.current_time())
                except PrsmError as error:
                    is_full = isinstance(error, PeerFull)
                    redials.fail(peer, now_s=trio.current_time(), is_full=is_full)
                    again_s = redials.due_s(peer) - trio.current_time()
                    log.info("peer %s: %s; again in %.1f s", peer, error.what, again_s)
        finally:
            redials.end(peer)
