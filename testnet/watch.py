"""Follows one node's blocks for all clients, so that none of them has to ask again and again.

Knows: the methods that wait for and show blocks. Must not know: histories: a hint from here is no
acknowledgement, the client asks the node itself.
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import CertifiedBlocks, CertifiedParams
from prsm.node.rpc.methods.wallet import AccountParams, Nonce
from prsm.protocol.codec import decode
from prsm.protocol.ids import address_text
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import Certified
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.asking import Asker, Door

WAIT_SECONDS: Final = 2.0  # for the next block; a stopped process never answers
AGAIN_SECONDS: Final = 0.1
_ANYBODY: Final = address_text(bytes(32))


@dataclass(slots=True)
class Watch:
    """One node as far as it has shown itself."""

    door: Door
    height: int = 0
    _awaited: dict[bytes, trio.Event] = field(default_factory=dict)

    def expect(self, tx_id: bytes) -> trio.Event:
        """Set once this node holds a block with that transaction; ask before sending it."""
        return self._awaited.setdefault(tx_id, trio.Event())

    def forget(self, tx_id: bytes) -> None:
        """Expect it no more."""
        self._awaited.pop(tx_id, None)

    async def run(self) -> None:
        """Follow the node, through deaths and restarts, until cancelled."""
        asker = Asker(self.door)
        try:
            while True:
                try:
                    with trio.fail_after(WAIT_SECONDS):
                        await self._next(asker)
                except trio.TooSlowError:
                    continue
                except (NodeUnreachable, RpcError):
                    await trio.sleep(AGAIN_SECONDS)
        finally:
            asker.close()

    async def _next(self, asker: Asker) -> None:
        params = AccountParams(_ANYBODY, min_height=self.height + 1)
        await asker.call("account_getNonce", params, result=Nonce)
        asked = CertifiedParams(first=self.height + 1)
        page = await asker.call("chain_getCertified", asked, result=CertifiedBlocks)
        if not page.items and page.height > self.height + 1:
            self._leap(page.height - 1)
        for raw in page.items:
            found = decode(bytes.fromhex(raw[2:]), Certified, size_max=BULK_FRAME_BYTES_MAX)
            self.height = found.block.header.height
            for transaction in found.block.body.transactions:
                event = self._awaited.pop(transaction_id(transaction), None)
                if event is not None:
                    event.set()

    def _leap(self, height: int) -> None:
        """The node took a snapshot: blocks below are not there, and may have held anything."""
        self.height = height
        while self._awaited:
            self._awaited.popitem()[1].set()
