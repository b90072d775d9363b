"""One IPFS peer as a `Source` of blocks, over bitswap.

Knows asks and CIDs. Must not know streams or libp2p. Every block that comes back has been hashed
to find out which one it is; the exchange hashes again, since it trusts no source.
"""

from collections.abc import Sequence
from typing import Final

from prsm.node.net.bitswap.asked import WINDOW
from prsm.node.net.bitswap.peer import Bitswap
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, Codec
from prsm.storage.errors import NotFound
from prsm.storage.interfaces import TIER_BITSWAP, Leaf, Traits

_TRAITS: Final = Traits(tier=TIER_BITSWAP, asks_max=2, run_leaves=WINDOW // 2)


class BitswapSource:
    """A connected IPFS peer.

    Args:
        bitswap: reaches it.
        peer: who is asked.
    """

    def __init__(self, bitswap: Bitswap, peer: PeerId) -> None:
        self._bitswap = bitswap
        self._peer = peer

    @property
    def name(self) -> str:
        """The peer's id behind the name of the protocol."""
        return f"bitswap:{self._peer}"

    @property
    def traits(self) -> Traits:
        """Two runs of a half window: the next is asked for when the window is empty."""
        return _TRAITS

    async def have(self, root: Cid) -> Have | None:
        """Return None: the protocol knows single blocks, and says of no file that it is whole.

        Raises:
            NotFound: the peer says that it does not hold the root.
            SourceDown: it is not connected.
        """
        if await self._bitswap.probe(self._peer, root) is False:
            raise NotFound(f"{self._peer} does not hold {root}")
        return None

    async def node(self, digest: bytes) -> bytes:
        """Return a block; peers find blocks by hash, whatever the codec.

        Raises:
            NotFound: the peer says that it does not hold it.
            SourceDown, SourceSlow: as `Bitswap.ask`.
        """
        return (await self._bitswap.ask(self._peer, (Cid(Codec.DAG_PB, digest),)))[0]

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the blocks of leaves, in that order; a shorter answer is a prefix.

        Raises:
            NotFound: the peer says that it does not hold the first.
            SourceDown, SourceSlow: as `Bitswap.ask`.
        """
        del root
        cids = [Cid(Codec.RAW, leaf.digest) for leaf in wanted]
        return await self._bitswap.ask(self._peer, cids)
