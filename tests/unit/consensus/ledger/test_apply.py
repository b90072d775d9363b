"""Blocks: every reason to refuse one, and that judging, applying and selecting agree."""

import msgspec
import pytest

from prsm.consensus.ledger.admission import Checked
from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.errors import (
    BadNonce,
    Conflict,
    Diverged,
    Expired,
    FeeTooLow,
    InsufficientFunds,
)
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.outcome import genesis_tip
from prsm.protocol.certificates import certificate_hash
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import BadSignature, WireError, WrongChain
from prsm.protocol.genesis import Parameters
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX, TRANSACTION_BYTES_MAX
from prsm.protocol.merkle import EMPTY_ROOT, root
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.envelope import (
    decode_transaction,
    sign_transaction,
    transaction_id,
)
from prsm.protocol.transactions.payloads import Transfer
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, Made, altered, signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, lock_of


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def key(number: int) -> bytes:
    return signer_of(number).public_key


def pay(amount: int = 1, to: int = 90) -> Transfer:
    return Transfer(asset=0, to=key(to), amount=amount, memo=b"")


def refused(chain: Chain, block: Block, wall_ms: int | None = None) -> str:
    """The reason; the state must not have moved."""
    before = (chain.ledger.state_root, chain.ledger.tip)
    reason = chain.ledger.judge(block, wall_ms=wall_ms)
    assert (chain.ledger.state_root, chain.ledger.tip) == before
    assert reason is not None
    return reason


HEADERS: list[tuple[dict[str, object], str]] = [
    ({"version": 2}, "version"),
    ({"chain_id": bytes(8)}, "chain id"),
    ({"height": 3}, "height 3, expected 2"),
    ({"epoch": 1}, "epoch"),
    ({"prev_hash": bytes(32)}, "previous hash"),
    ({"state_root": bytes(32)}, "state root"),
    ({"receipts_root": bytes(32)}, "receipts root"),
    ({"validators_hash": bytes(32)}, "validators"),
    ({"next_validators_hash": bytes(32)}, "next validators"),
    ({"proposer": 4}, "proposer 4 of 4"),
    ({"tx_root": bytes(32)}, "the body is not"),
    ({"evidence_root": bytes(32)}, "the body is not"),
    ({"prev_cert_hash": bytes(32)}, "the body is not"),
]


@pytest.mark.parametrize(("changes", "what"), HEADERS)
def test_judge_refuses_a_wrong_header(chain: Chain, changes: dict[str, object], what: str) -> None:
    chain.send(64, pay())
    assert refused(chain, altered(chain.propose(), **changes)).startswith(what)


def test_judge_refuses_time_that_does_not_move_on(chain: Chain) -> None:
    chain.send(64, pay())
    assert "its parent's is" in refused(chain, chain.propose(step_ms=0))
    assert chain.ledger.judge(chain.propose(step_ms=1), wall_ms=None) is None


@pytest.mark.parametrize(
    ("off", "good"), [(5_000, True), (-5_000, True), (5_001, False), (-5_001, False)]
)
def test_judge_asks_the_clock_for_fresh_proposals_only(chain: Chain, off: int, good: bool) -> None:
    block = chain.propose()
    reason = chain.ledger.judge(block, wall_ms=block.header.time_ms + off)
    assert (reason is None) is good
    assert chain.ledger.judge(block, wall_ms=None) is None


def with_parent(chain: Chain, **changes: object) -> Block:
    """The next block with another certificate of its parent, rightly bound."""
    block = chain.propose()
    assert block.body.prev_cert is not None
    certificate = msgspec.structs.replace(block.body.prev_cert, **changes)
    body = msgspec.structs.replace(block.body, prev_cert=certificate)
    bound = altered(block, prev_cert_hash=certificate_hash(certificate))
    return msgspec.structs.replace(bound, body=body)


def test_judge_refuses_a_wrong_parents_certificate(chain: Chain) -> None:
    first = chain.propose()
    early = chain.certify(first.header)
    body = msgspec.structs.replace(first.body, prev_cert=early)
    block = msgspec.structs.replace(
        altered(first, prev_cert_hash=certificate_hash(early)), body=body
    )
    assert "none belongs" in refused(chain, block)
    chain.send(64, pay())
    chain.send(64, pay())
    missing = chain.propose()
    body = msgspec.structs.replace(missing.body, prev_cert=None)
    block = msgspec.structs.replace(altered(missing, prev_cert_hash=bytes(32)), body=body)
    assert "or none" in refused(chain, block)
    assert "another block" in refused(chain, with_parent(chain, height=1))
    assert "another block" in refused(chain, with_parent(chain, block_hash=bytes(32)))
    assert "parent's certificate" in refused(chain, with_parent(chain, kind=Kind.PREPARE))
    two = chain.certify(chain.made[-1].block.header, signers=(0, 1))
    assert "quorum" in refused(
        chain, with_parent(chain, signers=two.signers, signatures=two.signatures)
    )
    assert "signature of validator" in refused(chain, with_parent(chain, view=1))


def test_judge_accepts_a_certificate_of_a_quorum_only(chain: Chain) -> None:
    chain.send(64, pay())
    three = chain.certify(chain.made[-1].block.header, signers=(0, 1, 3))
    block = with_parent(chain, signers=three.signers, signatures=three.signatures)
    assert chain.ledger.judge(block, wall_ms=None) is None


def resigned(raw: bytes, **changes: object) -> bytes:
    changed = msgspec.structs.replace(decode_transaction(raw), **changes)
    return encode(sign_transaction(changed, signer_of(64)))


TRANSACTIONS: list[tuple[dict[str, object], str, type[Exception]]] = [
    ({"chain_id": bytes(8)}, "of network", WrongChain),
    ({"kind": 99}, "unknown", WireError),
    ({"payload": b""}, "canonical", WireError),
    ({"payload": encode((0, bytes(32), 0, b""))}, "Transfer", WireError),
    ({"fee": 1}, "fee of 1", FeeTooLow),
    ({"nonce": 1}, "next one", BadNonce),
    ({"valid_until_ms": 0}, "valid until", Expired),
    ({"valid_until_ms": 2**62}, "valid until", Expired),
    ({"fee": 10**13}, "balance of", InsufficientFunds),
]


@pytest.mark.parametrize(("changes", "what", "error"), TRANSACTIONS)
def test_bad_transaction_spoils_a_block_and_is_refused_with_its_own_error(
    chain: Chain, changes: dict[str, object], what: str, error: type[Exception]
) -> None:
    raw = resigned(chain.order(64, pay()), **changes)
    assert what in refused(chain, chain.propose(raw))
    time_ms = chain.ledger.tip.time_ms + 1
    with pytest.raises(error, match=what):
        chain.ledger.rehearse(chain.ledger.admission.check(raw), time_ms=time_ms)
    assert chain.ledger.select([raw], time_ms=time_ms, bytes_max=10**6, count_max=9) == ()


def test_forged_long_and_loose_transactions_spoil_a_block(chain: Chain) -> None:
    raw = chain.order(64, pay())
    forged = encode(msgspec.structs.replace(decode_transaction(raw), fee=99_999))
    with pytest.raises(BadSignature):
        chain.ledger.admission.check(forged)
    assert "signed" in refused(chain, chain.propose(forged))
    assert "canonical" in refused(chain, chain.propose(raw + b"\x00"))
    assert "at most" in refused(chain, chain.propose(bytes(TRANSACTION_BYTES_MAX + 1)))
    assert "next one" in refused(chain, chain.propose(raw, raw))


def test_valid_until_is_block_time_and_both_ends_count(chain: Chain) -> None:
    raw = chain.order(64, pay(), ahead_ms=1_000)
    assert chain.ledger.judge(chain.propose(raw, step_ms=1_000), wall_ms=None) is None
    assert "valid until" in refused(chain, chain.propose(raw, step_ms=1_001))
    far = chain.order(64, pay(), ahead_ms=86_400_000 + 1_000)
    assert chain.ledger.judge(chain.propose(far, step_ms=1_000), wall_ms=None) is None
    assert "valid until" in refused(chain, chain.propose(far, step_ms=999))


def test_fee_is_by_the_byte_and_by_the_operation(chain: Chain) -> None:
    raw = chain.order(64, pay(), fee=10**6)
    size = len(raw)
    least = 1_000 + 10 * size + 500
    assert len(chain.order(64, pay(), fee=least)) <= size
    exact = resigned(raw, fee=least)
    wanted = 1_000 + 10 * len(exact) + 500
    assert chain.ledger.admission.check(resigned(raw, fee=wanted)).transaction.fee == wanted
    with pytest.raises(FeeTooLow):
        chain.ledger.admission.check(resigned(raw, fee=wanted - 1))


def test_fee_may_come_from_a_transfer_in_the_same_block(chain: Chain) -> None:
    poor = chain.order(90, pay(1, to=91))
    rich = chain.order(64, pay(FTNS, to=90))
    assert "balance of 0.00" in refused(chain, chain.propose(poor, rich))
    assert [receipt.code for receipt in chain.add(rich, poor).receipts()] == [Code.DONE] * 2


def test_body_is_bounded(chain: Chain) -> None:
    large = BLOCK_BODY_BYTES_MAX // 8 - 100
    many = [bytes(large)] * 9
    assert f"at most {BLOCK_BODY_BYTES_MAX}" in refused(chain, chain.propose(*many))
    half = BLOCK_BODY_BYTES_MAX // 2
    most = BLOCK_BODY_BYTES_MAX - (len(encode(chain.propose(bytes(half)).body)) - half)
    for size, is_too_large in ((most, False), (most + 1, True)):
        reason = refused(chain, chain.propose(bytes(size)))
        assert reason.startswith("body of") is is_too_large


def test_signature_known_from_admission_is_not_checked_again(chain: Chain) -> None:
    raw = chain.order(64, pay())
    forged = encode(msgspec.structs.replace(decode_transaction(raw), signature=bytes(64)))
    trusting = Ledger(
        chain.genesis, {}, verifier=Ed25519Verifier(), tip=None, known={transaction_id(forged)}
    )
    assert trusting.admission.check(forged).transaction.signature == bytes(64)
    with pytest.raises(BadSignature):
        chain.ledger.admission.check(forged)


def test_remembered_transactions_change_no_verdict_and_no_byte(chain: Chain) -> None:
    """Two nodes, one with all of it in memory: same choice, same outcome, same refusals."""
    decoded: dict[bytes, Checked] = {}
    other = Ledger(chain.genesis, {}, verifier=Ed25519Verifier(), tip=None, recall=decoded.get)
    orders = [chain.order(64, pay(), nonce=nonce) for nonce in range(3)]
    decoded.update((transaction_id(raw), other.admission.check(raw)) for raw in orders)
    assert other.admission.check(orders[0]) is decoded[transaction_id(orders[0])]
    late = chain.ledger.tip.time_ms + 1
    for raws in (orders, orders[1:], [orders[0], orders[0]], [orders[0][:-1] + b"?", *orders]):
        chosen = [
            ledger.select(raws, time_ms=late, bytes_max=10**6, count_max=10)
            for ledger in (chain.ledger, other)
        ]
        assert chosen[0] == chosen[1]
        block = chain.propose(*raws)
        assert other.judge(block, wall_ms=None) == chain.ledger.judge(block, wall_ms=None)
    made = chain.add(*orders)
    theirs = other.apply(made.block)
    assert theirs == made.outcome
    other.commit(theirs)
    assert other.state_root == chain.ledger.state_root
    again = chain.propose(orders[0])  # its nonce is taken: remembered or not
    assert "nonce" in refused(chain, again)
    assert other.judge(again, wall_ms=None) == refused(chain, again)


def test_apply_changes_nothing_until_committed(chain: Chain) -> None:
    block = chain.propose(chain.order(64, pay()))
    before = (chain.ledger.state_root, chain.ledger.tip, chain.ledger.view.account(key(90)))
    outcome = chain.ledger.apply(block)
    assert (chain.ledger.state_root, chain.ledger.tip, chain.ledger.view.account(key(90))) == before
    assert outcome.changes == sorted(outcome.changes)
    assert outcome.receipts_root == root(outcome.receipts)
    assert chain.ledger.apply(block) is outcome
    assert chain.ledger.judged(block_hash(block.header)) is outcome
    assert chain.ledger.judged(bytes(32)) is None
    chain.ledger.commit(outcome)
    assert chain.ledger.judged(block_hash(block.header)) is None
    assert chain.ledger.height == 1
    assert chain.ledger.tip.block_hash == block_hash(block.header)
    assert chain.ledger.receipts_root == outcome.receipts_root
    with pytest.raises(AssertionError, match="another state"):
        chain.ledger.commit(outcome)


def test_the_tree_of_a_commit_may_be_computed_in_parts(chain: Chain) -> None:
    """Or not at all, until somebody reads: the root is the same."""
    outcome = chain.ledger.apply(chain.propose(chain.order(64, pay())))
    before = chain.ledger.state_root
    rest = chain.ledger.commit(outcome)
    assert sum(rest) > 1
    assert chain.ledger.state_root not in {before, bytes(32)}
    chain.propose()  # its header carries the root before


def test_apply_stops_at_a_certified_block_that_contradicts_the_state(chain: Chain) -> None:
    block = altered(chain.propose(), state_root=bytes(32))
    with pytest.raises(Diverged, match="state root"):
        chain.ledger.apply(block)


def test_outcome_names_its_transactions_in_their_order(chain: Chain) -> None:
    orders = [chain.order(sender, pay()) for sender in (65, 64)]
    outcome = chain.add(*orders).outcome
    assert list(outcome.tx_ids) == [transaction_id(raw) for raw in orders]
    assert len(outcome.receipts) == 2
    assert outcome.senders == {key(64), key(65)}


def test_apply_never_takes_the_outcome_of_another_block(chain: Chain) -> None:
    """What was judged last is kept; a block that contradicts the state must not get that."""
    good, bad = chain.propose(), altered(chain.propose(), state_root=bytes(32))
    assert chain.ledger.judge(good, wall_ms=None) is None
    with pytest.raises(Diverged, match=f"block {bad.header.height} contradicts"):
        chain.ledger.apply(bad)
    assert chain.ledger.judged(block_hash(bad.header)) is None
    assert chain.ledger.apply(good).tip.block_hash == block_hash(good.header)


def test_stored_state_goes_on_where_it_stopped(chain: Chain) -> None:
    """Replay the changes into a plain dict as storage does; the second ledger agrees."""
    stored = {name: value for name, value in genesis_changes(chain.genesis) if value is not None}
    for _ in range(3):
        for name, value in chain.add(
            chain.order(64, pay(5)), chain.order(65, pay(5))
        ).outcome.changes:
            if value is None:
                stored.pop(name, None)
            else:
                stored[name] = value
    again = Ledger(chain.genesis, stored, verifier=Ed25519Verifier(), tip=chain.ledger.tip)
    assert again.state_root == chain.ledger.state_root
    block = chain.propose(chain.order(64, pay()))
    assert again.judge(block, wall_ms=None) is None
    assert again.prove_certified(b"t") is None


def test_tampered_state_does_not_start(chain: Chain) -> None:
    stored = {name: value for name, value in genesis_changes(chain.genesis) if value is not None}
    stored[b"a" + key(90) + bytes(4)] = encode((1,))
    with pytest.raises(AssertionError, match="supply"):
        Ledger(chain.genesis, stored, verifier=Ed25519Verifier(), tip=genesis_tip(chain.genesis))


def test_first_state_is_the_genesis(chain: Chain) -> None:
    totals = chain.ledger.view.supply()
    assert totals.minted == chain.genesis.minted
    assert totals.bonded == 400 * FTNS
    assert chain.ledger.receipts_root == EMPTY_ROOT
    assert chain.ledger.tip == genesis_tip(chain.genesis)
    assert chain.ledger.validators(1).digest == chain.genesis.first_validators().digest


def test_select_takes_what_runs_in_order_within_its_bounds(chain: Chain) -> None:
    time_ms = chain.ledger.tip.time_ms + 1
    good = [chain.order(64, pay(), nonce=nonce) for nonce in range(4)]
    gap = chain.order(65, pay(), nonce=1)
    broke = chain.order(90, pay())
    offered = [gap, b"junk", broke, *good]
    chosen = chain.ledger.select(offered, time_ms=time_ms, bytes_max=10**6, count_max=10)
    assert chosen == tuple(good)
    assert chain.ledger.judge(chain.propose(*chosen), wall_ms=None) is None
    few = chain.ledger.select(offered, time_ms=time_ms, bytes_max=10**6, count_max=2)
    assert few == tuple(good[:2])
    small = chain.ledger.select(
        offered, time_ms=time_ms, bytes_max=2 * len(good[0]) + 10, count_max=10
    )
    assert small == tuple(good[:2])


def test_rehearse_says_at_once_what_would_only_cost_the_fee(chain: Chain) -> None:
    def rehearse(sender: int, payload: Transfer) -> Code:
        checked = chain.ledger.admission.check(chain.order(sender, payload))
        return chain.ledger.rehearse(checked, time_ms=chain.ledger.tip.time_ms + 1).code

    assert rehearse(64, pay()) is Code.DONE
    with pytest.raises(InsufficientFunds, match="insufficient_funds"):
        rehearse(64, pay(10**12))
    assert chain.ledger.view.nonce(key(64)) == 0
    chain.send(REQUESTER, lock_of())
    checked = chain.ledger.admission.check(chain.order(REQUESTER, lock_of()))
    with pytest.raises(Conflict):
        chain.ledger.rehearse(checked, time_ms=chain.ledger.tip.time_ms + 1)


def test_two_ledgers_agree_on_every_root() -> None:
    first, second = Chain(small_genesis()), Chain(small_genesis(parameters=Parameters(tree_bits=8)))
    for nonce in range(3):
        raw = first.order(64, pay(3), nonce=nonce)
        made: Made = first.add(raw)
        second.ledger.commit(second.ledger.apply(made.block))
    assert first.ledger.state_root == second.ledger.state_root
