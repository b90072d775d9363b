"""One write at a time that measures whether a network still decides, and how soon.

Knows: an account of its own, watches of the nodes. Must not know: why it takes what it takes.
"""

import time
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import SubmitParams, Submitted
from prsm.node.rpc.methods.wallet import AccountParams, Nonce
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import address_text
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.asking import Asker
from prsm.testnet.orders import order, transfer
from prsm.testnet.processes import NotInTime
from prsm.testnet.watch import Watch

WRITE_SECONDS: Final = 60.0
FOLLOW_SECONDS: Final = 3.0  # then the same bytes are handed in again: the node may be a new one
AGAIN_SECONDS: Final = 0.05


@dataclass(slots=True)
class Pulse:
    """An account whose every transaction was in a block before the next one is signed."""

    genesis: Genesis
    signer: Ed25519Signer
    nonce: int = 0
    raws: list[bytes] = field(default_factory=list)  # all that was ever signed here
    _turn: trio.Lock = field(default_factory=trio.Lock)

    async def beat(self, watch: Watch) -> float:
        """Pay somebody at a node; milliseconds until that node holds the block with it.

        A node that cannot be reached is asked again; the clock runs.

        Raises:
            NotInTime: it does not come to that in a minute.
        """
        async with self._turn:
            raw = order(
                self.genesis, self.signer, transfer(bytes(32), self.nonce + 1), nonce=self.nonce
            )
            self.raws.append(raw)
            shown = watch.expect(transaction_id(raw))
            began = time.perf_counter()
            try:
                with trio.fail_after(WRITE_SECONDS):
                    while not shown.is_set():
                        await _hand_in(watch, raw, shown)
                        with trio.move_on_after(FOLLOW_SECONDS):
                            await shown.wait()
                    took = time.perf_counter() - began
                    if not await _wait_paid(watch, self.signer.public_key, self.nonce):
                        took = time.perf_counter() - began
            except trio.TooSlowError as error:
                raise NotInTime(f"a write is in no block after {WRITE_SECONDS} s") from error
            self.nonce += 1
            return took * 1000


async def _hand_in(watch: Watch, raw: bytes, shown: trio.Event) -> None:
    asker = Asker(watch.door)
    try:
        while not shown.is_set():
            try:
                params = SubmitParams("0x" + raw.hex())
                await asker.call("chain_submitTransaction", params, result=Submitted)
            except (NodeUnreachable, RpcError) as error:
                if isinstance(error, RpcError) and error.reason == "bad_nonce":
                    shown.set()  # in a block that this node did not show: it took a snapshot
                await trio.sleep(AGAIN_SECONDS)
            else:
                return
    finally:
        asker.close()


async def _wait_paid(watch: Watch, account: bytes, nonce: int) -> bool:
    """Wait until the node's own state says that a nonce is used; did it at once?"""
    asker = Asker(watch.door)
    params = AccountParams(address_text(account))
    asked = 0
    try:
        while True:
            asked += 1
            try:
                found = await asker.call("account_getNonce", params, result=Nonce)
            except (NodeUnreachable, RpcError):
                found = None
            if found is not None and found.nonce > nonce:
                return asked == 1
            await trio.sleep(AGAIN_SECONDS)
    finally:
        asker.close()
