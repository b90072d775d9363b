"""Brings signed transactions to a network that fails: the same bytes, anywhere, until in a block.

Knows: the methods that take and show transactions, watches of all nodes. Must not know: why a
client sends what it sends, or which faults there are. For one task at a time.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import SubmitParams, Submitted, TransactionInfo, TxParams
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.asking import Asker
from prsm.testnet.watch import Watch

CALL_SECONDS: Final = 1.5
FOLLOW_SECONDS: Final = 2.0  # at one node; then the same bytes go to another
AGAIN_SECONDS: Final = 0.03


class Heard(Enum):
    """What a node said to a submitted transaction."""

    TAKEN = "taken"
    USED = "used"  # its nonce is in a block, perhaps by this very transaction
    NOTHING = "nothing"  # no answer, or a refusal that may pass


@dataclass(frozen=True, slots=True)
class Delivered:
    """Which of some transactions is in a block, where, and which node said so."""

    which: int
    node: int
    height: int
    index: int
    done: bool  # it had its effect; a refusal of the ledger costs the fee


@dataclass(slots=True)
class Courier:
    """Connections of one sender to all nodes."""

    watches: Sequence[Watch]
    dice: random.Random
    askers: list[Asker] = field(init=False)

    def __post_init__(self) -> None:
        self.askers = [Asker(watch.door) for watch in self.watches]

    def close(self) -> None:
        """Close all connections."""
        for asker in self.askers:
            asker.close()

    def any_node(self) -> int:
        """Draw a node."""
        return self.dice.randrange(len(self.askers))

    async def deliver(
        self, raws: Sequence[bytes], *, choose: Callable[[], int] | None = None
    ) -> Delivered:
        """Hand in the last of one nonce's transactions until one of them is in a block.

        Args:
            raws: canonical bytes; those before the last one are rivals somebody may have taken.
            choose: draws the node to go to next; any if None.
        """
        tx_ids = [transaction_id(raw) for raw in raws]
        while True:
            node = (choose or self.any_node)()
            watch = self.watches[node]
            shown = [watch.expect(tx_id) for tx_id in tx_ids]
            try:
                heard = await self.hand_in(node, raws[-1])
                if heard is Heard.TAKEN:
                    with trio.move_on_after(FOLLOW_SECONDS):
                        await _any_of(shown)
                if heard is not Heard.NOTHING:
                    found = await self._find(node, tx_ids)
                    if found is not None:
                        return found
            finally:
                for tx_id in tx_ids:
                    watch.forget(tx_id)
            await trio.sleep(AGAIN_SECONDS)

    async def hand_in(self, node: int, raw: bytes) -> Heard:
        """Submit a transaction once."""
        try:
            with trio.fail_after(CALL_SECONDS):
                params = SubmitParams("0x" + raw.hex())
                await self.askers[node].call("chain_submitTransaction", params, result=Submitted)
        except RpcError as refusal:
            return Heard.USED if refusal.reason == "bad_nonce" else Heard.NOTHING
        except (NodeUnreachable, trio.TooSlowError):
            return Heard.NOTHING
        return Heard.TAKEN

    async def _find(self, node: int, tx_ids: Sequence[bytes]) -> Delivered | None:
        """Ask a node whether one of some transactions is in a block."""
        for which, tx_id in enumerate(tx_ids):
            params = TxParams("0x" + tx_id.hex())
            try:
                with trio.fail_after(CALL_SECONDS):
                    found = await self.askers[node].call(
                        "chain_getTransaction", params, result=TransactionInfo
                    )
            except RpcError:
                continue  # not from this node, or not any more
            except (NodeUnreachable, trio.TooSlowError):
                return None
            if found.status == "committed":
                assert found.height is not None
                assert found.index is not None
                return Delivered(which, node, found.height, found.index, bool(found.ok))
        return None


async def _any_of(events: Sequence[trio.Event]) -> None:
    """Wait until one of a few events has happened."""
    if len(events) == 1:
        await events[0].wait()
        return
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
