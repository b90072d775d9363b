"""Fees: every kind's operations by hand, and that what a wallet offers always suffices."""

from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.consensus.ledger.errors import FeeTooLow
from prsm.consensus.ledger.fees import fee_min, fee_to_offer, operations_of
from prsm.protocol.codec import Record, encode
from prsm.protocol.genesis import FEE_MAX, FEE_PER_BYTE_MAX, Parameters
from prsm.protocol.governance import Category
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.audits import (
    Audit,
    Dispute,
    Finding,
    Judge,
    Pledge,
    Redeem,
    Seal,
)
from prsm.protocol.transactions.conditions import (
    After,
    Approval,
    AtLeast,
    Branch,
    Claim,
    Hold,
    Reclaim,
    Signers,
)
from prsm.protocol.transactions.custody import Accept, Entrust, Lapse, Prove, Release
from prsm.protocol.transactions.envelope import decode_transaction, sign_transaction
from prsm.protocol.transactions.evaluations import Draw, RecordScore, SliceScore
from prsm.protocol.transactions.governance import (
    Ballot,
    Choice,
    Delegate,
    Enact,
    ParameterChange,
    Propose,
)
from prsm.protocol.transactions.membership import Join, Leave, Rotate, Stake, Withdraw
from prsm.protocol.transactions.payloads import (
    PAYLOADS,
    Commit,
    CommitRow,
    Evidence,
    Halt,
    Refund,
    RegisterModel,
    Settle,
    Transfer,
)
from prsm.protocol.transactions.registry import RegisterDataset, SetCard, SetChannel, Yank
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import MODEL, lock_of, unit_of

B32 = bytes(32)
MESSAGE = SignedMessage(
    kind=Kind.COMMIT, epoch=0, height=1, view=0, body=B32, signer=0, signature=bytes(64)
)
PAY = Transfer(asset=0, to=B32, amount=1, memo=b"")
TREE = AtLeast(1, (After(0), Signers(1, (B32, bytes([1]) * 32))))
HOLD = Hold(
    salt=B32,
    asset=0,
    amount=1,
    branches=(Branch(B32, TREE, None), Branch(B32, After(0), None)),
    fallback=None,
)


COUNTED: Final[list[tuple[Record, int]]] = [
    (PAY, 1),
    (RegisterModel(MODEL, "m", "1.0.0", B32, 1, (MODEL, MODEL)), 3),
    (lock_of("j", *(unit_of(stage, stages=3) for stage in range(3))), 3),
    (Commit(rows=(CommitRow(B32, 0, B32, b""),) * 4), 4),
    (Settle(job=B32, unit=0, receipts=(b"", b"", b""), feeds=()), 3),
    (Refund(job=B32), 1),
    (Evidence(first=MESSAGE, second=MESSAGE), 2),
    (Halt(cid=MODEL, lift=False, reason=""), 1),
    (HOLD, 6),
    (Claim(B32, 0, (b"p",), (Approval(B32, bytes(64)),) * 2), 4),
    (Reclaim(B32), 1),
    (Join(B32, "peer", 1, bytes(64)), 2),
    (Stake(1), 1),
    (Leave(), 1),
    (Rotate(B32, "peer", bytes(64)), 2),
    (Withdraw(), 1),
    (Propose(B32, Category.COMMUNITY, "t", (ParameterChange("fee_base", 1),) * 2, None), 3),
    (Ballot(B32, Choice.YES), 1),
    (Delegate(Category.COMMUNITY, None), 1),
    (Enact(B32), 1),
    (SetChannel("m", "stable", "1.0.0"), 1),
    (Yank("m", "1.0.0", lift=False, reason=""), 1),
    (RegisterDataset(MODEL, "d", "1.0.0", B32, 1, 1, 0, (MODEL, MODEL)), 3),
    (SetCard(MODEL, MODEL), 1),
    (Entrust(B32, MODEL, 1, B32, B32, 1, 1, 10, None), 1),
    (Accept(B32), 1),
    (Prove(B32, 1, b"c", bytes(128 * 32)), 2),
    (Lapse(B32), 1),
    (Release(B32), 1),
    (Pledge(1), 1),
    (Redeem(1), 1),
    (Audit(B32, 0, 0, B32, B32, B32), 1),
    (Dispute(B32, 0, 0, b""), 2),
    (Judge(B32, 0, B32, Finding.EQUAL, bytes(64)), 2),
    (Seal(B32, 0, B32, B32, bytes(64)), 2),
    (RecordScore(B32, (SliceScore(B32, 1),)), 1),
    (Draw(B32, MODEL, MODEL), 9),
]


@pytest.mark.parametrize(("payload", "operations"), COUNTED)
def test_operations_of_every_kind(payload: Record, operations: int) -> None:
    assert operations_of(payload) == operations


def test_every_kind_stands_in_the_table_above() -> None:
    """A new kind says how many operations it has."""
    assert {type(payload) for payload, _ in COUNTED} == {cls for _, cls in PAYLOADS.items()}


def test_fee_adds_its_three_parts() -> None:
    parameters = Parameters(fee_base=7, fee_per_byte=3, fee_per_operation=1_000)
    assert fee_min(parameters, size_bytes=100, operations=2) == 7 + 300 + 2_000


@given(
    st.sampled_from((0, 1, 10, FEE_PER_BYTE_MAX)),
    st.sampled_from((0, 500, FEE_MAX)),
    st.integers(0, 64),
)
def test_offered_fee_is_admitted_and_little_above_the_least(
    per_byte: int, per_operation: int, memo: int
) -> None:
    parameters = Parameters(tree_bits=4, fee_per_byte=per_byte, fee_per_operation=per_operation)
    chain = Chain(small_genesis(parameters=parameters))
    payload = msgspec.structs.replace(PAY, memo=bytes(memo))
    draft = decode_transaction(chain.order(64, payload))
    offered = fee_to_offer(parameters, draft, payload)
    signed = sign_transaction(msgspec.structs.replace(draft, fee=offered), signer_of(64))
    raw = encode(signed)
    assert chain.ledger.admission.check(raw).raw == raw
    least = fee_min(parameters, size_bytes=len(raw), operations=1)
    assert least <= offered <= least + 9 * per_byte


def test_operations_are_charged_by_admission() -> None:
    chain = Chain(small_genesis())
    draft = decode_transaction(chain.order(64, HOLD, fee=10**5))
    size = len(encode(draft))
    for short in (0, 1):
        fee = 1_000 + 10 * size + 500 * 6 - short
        raw = encode(sign_transaction(msgspec.structs.replace(draft, fee=fee), signer_of(64)))
        size_now = len(raw)
        fee -= 10 * (size - size_now)
        raw = encode(sign_transaction(msgspec.structs.replace(draft, fee=fee), signer_of(64)))
        if short:
            with pytest.raises(FeeTooLow, match="6 operations"):
                chain.ledger.admission.check(raw)
        else:
            chain.ledger.admission.check(raw)
