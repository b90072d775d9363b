"""What a transaction costs at least: for being there, for its bytes, for its operations.

The one place where a fee is computed: admission asks for it, a wallet offers it. Must not know
the state. Source: docs/spec/ledger.md, "Fees".
"""

from typing import Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import Amount
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.transactions.audits import Dispute, Judge, Seal
from prsm.protocol.transactions.conditions import Claim, Hold, steps_of
from prsm.protocol.transactions.custody import Prove
from prsm.protocol.transactions.envelope import Transaction
from prsm.protocol.transactions.evaluations import Draw
from prsm.protocol.transactions.governance import Propose
from prsm.protocol.transactions.membership import Join, Rotate
from prsm.protocol.transactions.payloads import Commit, Evidence, Lock, RegisterModel, Settle
from prsm.protocol.transactions.registry import RegisterDataset

PROOF_NODES_BYTES: Final = 128 * 32  # hashing so many costs what checking a signature does
DRAW_HASHES: Final = 64  # hashed and sorted, one each pledged account: about as much, too
FEE_FIELD_SLACK: Final = 9  # bytes of the largest fee: the size must not depend on the fee


def operations_of(payload: Record) -> int:  # noqa: C901, PLR0911 - dispatch
    """Operations a transaction makes every node do: entries, signatures, units, receipts, steps.

    Counted on the payload alone, so that it is known before anything runs.
    """
    match payload:
        case RegisterModel() | RegisterDataset():
            return 1 + len(payload.parents)
        case Lock():
            return max(1, len(payload.units))
        case Commit():
            return len(payload.rows)
        case Settle():
            return len(payload.receipts) + len(payload.feeds)
        case Evidence() | Join() | Rotate() | Dispute() | Judge() | Seal():
            return 2
        case Hold():
            return sum(steps_of(branch.condition) for branch in payload.branches)
        case Propose():
            return 1 + len(payload.changes)
        case Prove():
            return 1 + len(payload.nodes) // PROOF_NODES_BYTES
        case Draw():
            return 1 + PLEDGERS_MAX // DRAW_HASHES  # whoever is pledged when it is made
        case Claim():
            return 1 + len(payload.preimages) + len(payload.approvals)
        case _:
            return 1


def fee_min(parameters: Parameters, *, size_bytes: int, operations: int) -> Amount:
    """Smallest fee of a transaction of this size with so many operations, in micro-FTNS."""
    return Amount(
        parameters.fee_base
        + parameters.fee_per_byte * size_bytes
        + parameters.fee_per_operation * operations
    )


def size_to_pay(draft: Transaction) -> int:
    """Bytes to pay for, whatever the fee field of the draft will hold."""
    unpaid = msgspec.structs.replace(draft, fee=0)
    return len(encode(unpaid)) + FEE_FIELD_SLACK


def fee_to_offer(parameters: Parameters, draft: Transaction, payload: Record) -> Amount:
    """A fee that suffices for a draft once it is written into it.

    Args:
        parameters: of the network.
        draft: complete but for fee and signature.
        payload: the record its payload is the bytes of.
    """
    return fee_min(parameters, size_bytes=size_to_pay(draft), operations=operations_of(payload))
