"""A name for a stored manifest: the one transaction that says so, and what became of it.

Knows: payloads of the registry, the outbox. Must not know: how a manifest came to be.
"""

from typing import Final

from prsm.consensus.ledger.errors import refusal
from prsm.consensus.ledger.registry import is_well_formed
from prsm.consensus.ledger.view import View
from prsm.node.chain.outbox import Outbox, Sent
from prsm.node.inference.interface import TransactionFailed
from prsm.protocol.codec import Record
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.transactions.payloads import REGISTER_MODEL, RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict

COMMIT_SECONDS: Final = 60.0


def check_name(view: View, name: str, semver: str, *, publisher: bytes) -> None:
    """Say before minutes of work what the ledger would refuse after them.

    Args:
        view: of the ledger.
        name: wanted.
        semver: wanted.
        publisher: account that is to have it.

    Raises:
        Conflict: it has another thing of that name and version.
        LocalError: this is no name, or no version, or the name is another account's.
    """
    if not is_well_formed(name, semver):
        raise refusal(Code.BAD_NAME)
    if view.release(name, semver) is not None:
        raise Conflict(
            f"{name}@{semver} is on the ledger already",
            hint="choose another name, or another version with --semver",
        )
    if view.owner(name) not in {None, publisher}:
        raise refusal(Code.NAME_TAKEN)


async def register_model(outbox: Outbox, cid: Cid, manifest: ModelManifest) -> Sent:
    """Name a stored manifest of a model on the ledger.

    Raises:
        WalletLocked, TransactionFailed, LocalError: as `name_on_ledger`.
    """
    payload = RegisterModel(
        manifest=cid.raw,
        name=manifest.name,
        semver=manifest.semver,
        pinned_sha256=manifest.compute.pinned_sha256,
        total_bytes=manifest.total_bytes,
        parents=manifest.parents,
    )
    return await name_on_ledger(outbox, REGISTER_MODEL, payload, manifest=manifest)


async def name_on_ledger(
    outbox: Outbox, kind: int, payload: Record, *, manifest: ModelManifest
) -> Sent:
    """Order a registration and wait until it is in a block, or has to wait for longer.

    Args:
        outbox: of the publisher.
        kind: of the transaction.
        payload: of the registration.
        manifest: that is stored.

    Raises:
        WalletLocked: the name needs a signature.
        TransactionFailed: the ledger refused it.
        LocalError: the ledger would refuse it; the class says why.
    """
    called = f"{manifest.name}@{manifest.semver}"
    sent = await outbox.place(
        f"name:{called}",
        *(kind, payload),
        subject=subject_of(manifest.name),
        patience_s=COMMIT_SECONDS,
    )
    if sent.result is not None and sent.result.receipt.code is not Code.DONE:
        code = sent.result.receipt.code.name.lower()
        raise TransactionFailed(
            f"the ledger refused {called}: {code}", hint="choose another name or version"
        )
    return sent


def subject_of(name: str) -> str:
    """What is ordered about a name goes one after the other: a channel needs its version."""
    return f"name:{name}"


def channel_key(name: str, channel: str) -> str:
    """What a channel's place is ordered as: the latest order is the one that counts."""
    return f"channel:{name}:{channel}"
