"""The port behind which blocks come from elsewhere; range streams and IPFS daemons stand there.

Knows: what a source promises. Must not know: transports. One battery
(`tests/tools/source_battery.py`) runs on every implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a file: its place, the sha2-256 it must have, and its size in bytes."""

    index: int
    digest: bytes
    size: int


class Source(Protocol):
    """Somebody who may hold blocks. Everything it returns is unverified: the exchange hashes.

    Every method is a checkpoint, may be cancelled at any await, and sets no deadline of its own
    (the caller does; a library's socket timeout below that is allowed). Each may raise
    `NotFound` (it says it does not hold that), `SourceDown`, `SourceSlow`, `SourceBroken` or
    `SourceFailed`; any of them but `NotFound` makes the exchange drop the source for the session.
    """

    @property
    def name(self) -> str:
        """Who this is, for people and for penalties: a peer id, or a daemon's URL."""
        ...

    async def have(self, root: Cid) -> Have | None:
        """Say which leaves of a root it holds; None if it cannot tell without trying.

        Raises:
            NotFound: it holds nothing of that root.
        """
        ...

    async def node(self, digest: bytes) -> bytes:
        """Return the block of this sha2-256 digest: an interior node or a manifest.

        Raises:
            NotFound: it does not hold it.
        """
        ...

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the blocks of successive leaves, in that order; a shorter answer is a prefix.

        Raises:
            NotFound: it does not hold the first of them.
        """
        ...
