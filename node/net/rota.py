"""Turns at something scarce: so many at once, and of those who wait one after the other, by peer.

Knows who asks. Must not know what for. A peer that asks much waits behind its own asks, not in
front of everybody else's.
"""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from prsm.protocol.ids import PeerId


class Rota:
    """Gives turns out.

    Args:
        at_once: how many may be taken at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: OrderedDict[PeerId, deque[trio.Event]] = OrderedDict()

    def waiting(self, who: PeerId) -> int:
        """How many asks of a peer wait."""
        return len(self._waiting.get(who, ()))

    @asynccontextmanager
    async def turn(self, who: PeerId) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        await self._enter(who)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, who: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if self._free:
            self._free -= 1
            return
        turn = trio.Event()
        self._waiting.setdefault(who, deque()).append(turn)
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self._leave()
            else:
                self._give_up(who, turn)
            raise

    def _leave(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        who, turns = self._waiting.popitem(last=False)
        turns.popleft().set()
        if turns:
            self._waiting[who] = turns  # behind everybody else

    def _give_up(self, who: PeerId, turn: trio.Event) -> None:
        self._waiting[who].remove(turn)
        if not self._waiting[who]:
            del self._waiting[who]
