"""The receipt of a job: one JSON document from which a stranger derives who was paid for what.

Pure: the caller gathers blocks, certificates and proofs; `testnet/verify_receipt.py` reads the
result and shares no code with this file. Source: docs/spec/ledger.md, "Receipt of a job".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from prsm.consensus.ledger.errors import EscrowState
from prsm.consensus.ledger.records import Job, JobStatus, job_key
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Header
from prsm.protocol.ids import address_text
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.sync import Certified, EpochProof
from prsm.protocol.proofs import StateProof
from prsm.protocol.transactions.audits import Judge
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import JUDGE, PAYLOADS, SETTLE, Settle
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.protocol.validators import Members

DOCUMENT_VERSION: Final = 3
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The block that settled a unit, what became of its transactions, and the block after it."""

    block: Certified
    receipts: Sequence[bytes]  # canonical `TxReceipt`s of `block`
    following: Certified  # its header's receipts_root covers them


def settlement_heights(job: Job) -> list[int]:
    """Heights whose blocks the document needs; of each also the block after it.

    Raises:
        EscrowState: the job is not settled.
    """
    if job.status is not JobStatus.SETTLED:
        raise EscrowState(
            f"job {address_text(job.job)} is {job.status.name.lower()}, not settled",
            hint="a receipt exists once every unit of the job is settled",
        )
    return sorted({verdict.height for verdict in job.verdicts if verdict is not None})


def proof_keys(job: Job) -> list[bytes]:
    """State keys the document proves: the job, which holds what its verdicts rest on."""
    return [job_key(job.job)]


def receipt_document(
    genesis: Genesis,
    job: Job,
    settlements: Mapping[int, Settlement],
    *,
    proofs: Sequence[StateProof],
    proven_by: Certified,
    epochs: Sequence[EpochProof],
) -> Json:
    """Write the document.

    Args:
        genesis: of the network.
        job: settled, as the state holds it.
        settlements: by the heights `settlement_heights` names.
        proofs: of the keys `proof_keys` names, in that order, under the state root of
            `proven_by`.
        proven_by: a block later than the last settlement; its root is the state before it.
        epochs: one after the other, from the one that is trusted to that of `proven_by`.

    Raises:
        EscrowState: the job is not settled.
    """
    heights = settlement_heights(job)
    headers = {proven_by.block.header.height: proven_by}
    amounts: dict[bytes, int] = {}
    units: list[Json] = []
    for height in heights:
        headers[height] = settlements[height].block
        headers[height + 1] = settlements[height].following
    for unit, verdict in enumerate(job.verdicts):
        assert verdict is not None
        settlement = settlements[verdict.height]
        index, receipt = _find(settlement, job.job, unit)
        for payment in receipt.paid:
            amounts[payment.account] = amounts.get(payment.account, 0) + payment.amount
        units.append(_unit(unit, verdict.height, settlement, index))
    return {
        "version": DOCUMENT_VERSION,
        "chain_id": _hex(genesis.chain_id),
        "genesis_digest": _hex(genesis.digest),
        "epoch": epochs[0].members.epoch,
        "validators": _members(epochs[0].members),
        "epochs": [_step(known, after) for known, after in pairwise(epochs)],
        "job": _hex(job.job),
        "headers": [
            _signed(entry.block.header, entry.certificate) for _, entry in sorted(headers.items())
        ],
        "settlements": units,
        "state": {
            "height": proven_by.block.header.height,
            "proofs": [_hex(encode(proof)) for proof in proofs],
        },
        "payments": [
            {"account": _hex(account), "micro_ftns": str(amount)}
            for account, amount in sorted(amounts.items())
        ],
    }


def _unit(unit: int, height: int, settlement: Settlement, index: int) -> Json:
    transactions = settlement.block.block.body.transactions
    return {
        "unit": unit,
        "height": height,
        "transaction": _hex(transactions[index]),
        "transaction_path": _path(transactions, index),
        "receipt": _hex(settlement.receipts[index]),
        "receipt_path": _path(settlement.receipts, index),
    }


def _step(known: EpochProof, after: EpochProof) -> Json:
    return {**_signed(known.header, known.certificate), "validators": _members(after.members)}


def _members(members: Members) -> list[Json]:
    return [
        {
            "operator": _hex(member.operator),
            "consensus": _hex(member.consensus),
            "peer_id": member.peer_id,
            "stake": str(member.stake),
        }
        for member in members.validators
    ]


def _signed(header: Header, certificate: Certificate) -> Json:
    return {"header": _hex(encode(header)), "certificate": _hex(encode(certificate))}


def _find(settlement: Settlement, job: bytes, unit: int) -> tuple[int, TxReceipt]:
    """Place and receipt of the transaction that ended a unit, by receipts or by a case.

    Failed attempts, and findings that did not decide, may stand before it.
    """
    listed = list(enumerate(settlement.block.block.body.transactions))
    for index, raw in reversed(listed):
        transaction = decode_transaction(raw)
        if transaction.kind not in {SETTLE, JUDGE}:
            continue
        payload = PAYLOADS.decode(
            transaction.kind, transaction.payload, size_max=TRANSACTION_BYTES_MAX
        )
        assert isinstance(payload, Settle | Judge)
        receipt = decode(settlement.receipts[index], TxReceipt, size_max=TRANSACTION_BYTES_MAX)
        if (payload.job, payload.unit, receipt.code) == (job, unit, Code.DONE):
            return index, receipt
    raise AssertionError(f"no settlement of unit {unit} in its block")


def _path(items: Sequence[bytes], index: int) -> list[list[str]]:
    """Audit path with the side of each sibling, so that no count needs to be believed."""
    steps = iter(merkle.proof(items, index))
    path, count = [], len(items)
    while count > 1:
        if index ^ 1 < count:
            path.append(["left" if index & 1 else "right", _hex(next(steps))])
        index, count = index // 2, (count + 1) // 2
    return path


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
