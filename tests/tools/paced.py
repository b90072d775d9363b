"""Sources that take their time, by the clock of the test, and do what a script says."""

from collections.abc import Sequence
from enum import Enum

import trio
from typing_extensions import override

from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid
from prsm.storage.errors import NotFound, SourceBroken, SourceDown, SourceSlow
from prsm.storage.interfaces import TIER_PEER, Leaf, Traits
from tests.tools.sources import MemorySource


class Manner(Enum):
    """How a paced source behaves after `good` leaves."""

    HONEST = "honest"
    STALLS = "stalls"
    WRONG = "wrong"
    LIES = "lies"  # about having
    CUT = "cut"
    BUSY = "busy"  # once, with a time to come back
    DEAF = "deaf"  # answers nothing at all, from the first word on


class PacedSource:
    """Serves a file in memory at a pace, one call after the other, as a peer's stream does.

    Args:
        inner: what it serves.
        name: of the source.
        leaf_s: seconds for each leaf.
        manner: what it does after `good` leaves.
        good: leaves it serves as it should.
    """

    def __init__(
        self,
        inner: MemorySource,
        name: str,
        *,
        leaf_s: float = 0.01,
        manner: Manner = Manner.HONEST,
        good: int = 0,
    ) -> None:
        self.name = name
        self.traits = Traits(tier=TIER_PEER)
        self.sent = 0
        self.bad = 0
        self.asked: list[int] = []
        self._inner = inner
        self._leaf_s = leaf_s
        self._manner = manner
        self._good = good
        self._stream = trio.Lock()

    async def have(self, root: Cid) -> Have | None:
        await self._hear()
        return await self._inner.have(root)

    async def node(self, digest: bytes) -> bytes:
        await self._hear()
        return await self._inner.node(digest)

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        self.asked += [leaf.index for leaf in wanted]
        async with self._stream:
            if self.sent >= self._good:
                await self._act()
            part = wanted[:3]
            await trio.sleep(self._leaf_s * len(part))
            self.sent += len(part)
            blocks = list(await self._inner.fetch(root, part))
        if self._manner is Manner.WRONG and self.sent > self._good:
            self.bad += 1
            return [bytes(len(block)) for block in blocks]
        return blocks

    async def _hear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._manner is Manner.DEAF:
            await trio.sleep_forever()

    async def _act(self) -> None:
        match self._manner:
            case Manner.STALLS | Manner.DEAF:
                await trio.sleep_forever()
            case Manner.LIES:
                raise NotFound(f"{self.name} does not hold that")
            case Manner.CUT:
                raise SourceBroken(f"{self.name} broke off")
            case Manner.BUSY:
                self._manner = Manner.HONEST
                raise SourceSlow(f"{self.name} is busy", retry_after_ms=500)
            case Manner.HONEST | Manner.WRONG:
                pass


class GoneSource(PacedSource):
    """Is down at everything."""

    @override
    async def _hear(self) -> None:
        await trio.lowlevel.checkpoint()
        raise SourceDown(f"{self.name} is down")
