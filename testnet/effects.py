"""Judges the blocks of any network: one chain, each transaction once, nothing acknowledged lost.

Knows: exported blocks, what a load was told. Must not know: how the network was run. Pure. Where
only transfers went over the network the serial model judges every balance too (`histories`); here
is what holds with jobs, evidence and liars as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prsm.protocol.codec import decode
from prsm.protocol.errors import WireError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.audits import Judge
from prsm.protocol.transactions.envelope import Transaction, transaction_id
from prsm.protocol.transactions.payloads import JUDGE, LOCK, SETTLE, Lock, Settle
from prsm.testnet.histories.check import Fault, Place, Verdict, check_writes, one_chain
from prsm.testnet.histories.record import Write

Unit = tuple[bytes, int]  # job, number of the unit


@dataclass(slots=True)
class Effects:
    """What was judged, and what only a node can tell: which transactions ended a unit.

    Attributes:
        endings: ids of the transactions that may have ended each unit, in order: settlements, and
            findings of a committee's jurors. One of them pays, or returns what was reserved.
        jobs: ids of all jobs that were locked.
        evidence: pieces of evidence in blocks.
    """

    verdict: Verdict
    transactions: int = 0
    endings: dict[Unit, list[bytes]] = field(default_factory=dict)
    jobs: list[bytes] = field(default_factory=list)
    evidence: int = 0


def judge(
    chains: Mapping[str, Sequence[bytes]],
    writes: Sequence[Write],
    genesis: Genesis,
    *,
    is_honest: bool = True,
) -> Effects:
    """Judge the blocks of all nodes.

    Args:
        chains: of each node, by name: `Certified` bytes of all its blocks from height 1 on.
        writes: of a load, acknowledged or open.
        genesis: of the network.
        is_honest: nobody lies in agreement.
    """
    verdict = Verdict(operations=len(writes))
    blocks = one_chain(chains, genesis, verdict, is_honest=is_honest)
    verdict.height = len(blocks)
    effects = Effects(verdict)
    places = _places(blocks, effects)
    effects.transactions = sum(map(len, places.values()))
    ours = {write.tx_id for write in writes}
    check_writes(writes, {key: value for key, value in places.items() if key in ours}, verdict)
    for tx_id, found in places.items():
        if len(found) > 1 and tx_id not in ours:
            heights = ", ".join(str(place.height) for place in found)
            verdict.add(Fault.DOUBLED_WRITE, f"{tx_id.hex()[:16]} stands at heights {heights}")
    return effects


def _places(blocks: Sequence[Block], effects: Effects) -> dict[bytes, list[Place]]:
    """Where each transaction stands; each sender's nonces must follow one another from 0."""
    places: dict[bytes, list[Place]] = {}
    nonces: dict[bytes, int] = {}
    for block in blocks:
        height = block.header.height
        effects.evidence += len(block.body.evidence)
        for index, raw in enumerate(block.body.transactions):
            places.setdefault(transaction_id(raw), []).append(Place(height, index, None))
            try:
                found = decode(raw, Transaction, size_max=TRANSACTION_BYTES_MAX)
            except WireError as error:
                effects.verdict.add(Fault.IMPOSSIBLE, f"height {height}: {error.what}")
                continue
            expected = nonces.get(found.sender, 0)
            if found.nonce != expected:
                effects.verdict.add(
                    Fault.DOUBLED_WRITE if found.nonce < expected else Fault.IMPOSSIBLE,
                    f"height {height}: nonce {found.nonce} of {found.sender.hex()[:16]}, "
                    f"{expected} is next",
                )
            nonces[found.sender] = found.nonce + 1
            _note_work(found, transaction_id(raw), effects)
    return places


def _note_work(found: Transaction, tx_id: bytes, effects: Effects) -> None:
    if found.kind == SETTLE:
        settle = decode(found.payload, Settle, size_max=TRANSACTION_BYTES_MAX)
        effects.endings.setdefault((settle.job, settle.unit), []).append(tx_id)
    elif found.kind == JUDGE:
        finding = decode(found.payload, Judge, size_max=TRANSACTION_BYTES_MAX)
        effects.endings.setdefault((finding.job, finding.unit), []).append(tx_id)
    elif found.kind == LOCK:
        effects.jobs.append(decode(found.payload, Lock, size_max=TRANSACTION_BYTES_MAX).job)
