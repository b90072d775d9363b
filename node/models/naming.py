"""A name for a stored manifest: the one transaction that says so, and what became of it.

Knows: payloads of the registry, the wallet. Must not know: how a manifest came to be.
"""

from typing import Final

import trio

from prsm.node.chain.wallet import TxResult, Wallet
from prsm.node.inference.interface import TransactionFailed
from prsm.node.models.records import NotCommitted
from prsm.protocol.codec import Record
from prsm.protocol.ids import TxId
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.transactions.payloads import REGISTER_MODEL, RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid

COMMIT_SECONDS: Final = 60.0


async def register_model(wallet: Wallet, cid: Cid, manifest: ModelManifest) -> TxId:
    """Name a stored manifest of a model on the ledger.

    Raises:
        WalletLocked, NotCommitted, TransactionFailed: as `name_on_ledger`.
    """
    payload = RegisterModel(
        manifest=cid.raw,
        name=manifest.name,
        semver=manifest.semver,
        pinned_sha256=manifest.compute.pinned_sha256,
        total_bytes=manifest.total_bytes,
        parents=manifest.parents,
    )
    called = f"{manifest.name}@{manifest.semver}"
    return await name_on_ledger(wallet, REGISTER_MODEL, payload, called=called, cid=cid)


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
