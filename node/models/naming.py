"""A name for a stored manifest: the one transaction that says so, and what became of it.

Knows: payloads of the registry, the wallet. Must not know: what a manifest is of.
"""

from typing import Final

import trio

from prsm.node.chain.wallet import TxResult, Wallet
from prsm.node.inference.interface import TransactionFailed
from prsm.node.models.records import NotCommitted
from prsm.protocol.codec import Record
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid

COMMIT_SECONDS: Final = 60.0


async def name_on_ledger(
    wallet: Wallet, kind: int, payload: Record, *, called: str, cid: Cid
) -> TxId:
    """Submit a registration and wait until it is in a block.

    Args:
        wallet: of the publisher.
        kind: of the transaction.
        payload: of the registration.
        called: name and version, for people.
        cid: of the stored manifest, for people.

    Raises:
        WalletLocked: the name needs a signature.
        NotCommitted: no block took it in time; one still may.
        TransactionFailed: the ledger refused it.
    """
    tx_id = await wallet.submit(kind, payload)
    result: TxResult | None = None
    with trio.move_on_after(COMMIT_SECONDS):
        result = await wallet.wait_committed(tx_id)
    if result is None:
        raise NotCommitted(
            f"{called} is in no block after {COMMIT_SECONDS:.0f} s; it is stored as {cid}",
            hint="see: prsm chain status",
        )
    if result.receipt.code is not Code.DONE:
        code = result.receipt.code.name.lower()
        raise TransactionFailed(
            f"the ledger refused {called}: {code}", hint="choose another name or version"
        )
    return tx_id
