"""Holds: what opens, what pays, what refuses; the money of each at its millisecond."""

import msgspec
import pytest

from prsm.consensus.ledger.context import HoldOpened, HoldPaid
from prsm.consensus.ledger.records import Held
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import (
    After,
    Approval,
    AtLeast,
    Branch,
    Claim,
    Fallback,
    HashLock,
    Hold,
    Predicate,
    Reclaim,
    Signers,
    Vesting,
    approve,
    hold_id,
)
from prsm.protocol.transactions.results import Code, Payment
from prsm.testnet.chain import FTNS, START_MS, Chain, signer_of, small_genesis

HOLDER, PAYEE, OTHER, ANYBODY = 64, 90, 91, 65
SECRET = b"a secret of the payee"


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def key(number: int) -> bytes:
    return signer_of(number).public_key


def at(seconds: int) -> int:
    return START_MS + seconds * 1_000


def branch(condition: Predicate, to: int = PAYEE, vesting: Vesting | None = None) -> Branch:
    return Branch(to=key(to), condition=condition, vesting=vesting)


def hold_of(*branches: Branch, fallback_s: int | None = 100, amount: int = 100) -> Hold:
    fallback = None if fallback_s is None else Fallback(at(fallback_s), key(HOLDER))
    return Hold(salt=bytes(32), asset=0, amount=amount, branches=branches, fallback=fallback)


def open_hold(chain: Chain, terms: Hold) -> bytes:
    """Commit it at second 1."""
    assert chain.send(HOLDER, terms).code is Code.DONE
    return hold_id(chain.genesis.chain_id, key(HOLDER), terms)


def claim_of(
    hold: bytes, branch: int = 0, *approvals: Approval, preimages: tuple[bytes, ...] = ()
) -> Claim:
    return Claim(hold=hold, branch=branch, preimages=preimages, approvals=approvals)


def found(chain: Chain, hold: bytes) -> Held:
    held = chain.ledger.view.hold(hold)
    assert held is not None
    return held


def step_to(chain: Chain, seconds: int) -> int:
    """Milliseconds until a block of that second."""
    return at(seconds) - chain.ledger.tip.time_ms


def test_hold_takes_the_amount_and_counts_as_locked(chain: Chain) -> None:
    view, terms = chain.ledger.view, hold_of(branch(After(at(10))), amount=7 * FTNS)
    before = view.account(key(HOLDER))
    receipt = chain.send(HOLDER, terms)
    identity = hold_id(chain.genesis.chain_id, key(HOLDER), terms)
    assert (receipt.code, receipt.paid, receipt.returned) == (Code.DONE, (), 0)
    assert view.account(key(HOLDER)) == before - 7 * FTNS - receipt.fee
    assert view.supply().locked == 7 * FTNS
    assert chain.made[-1].outcome.events == (HoldOpened(identity, key(HOLDER), 7 * FTNS),)
    held = found(chain, identity)
    assert (held.holder, held.terms, held.left, held.reclaimed) == (
        key(HOLDER),
        terms,
        7 * FTNS,
        False,
    )
    assert held.opened_height == 1
    assert view.holds(key(PAYEE)) == view.holds(key(HOLDER)) == [held]
    assert view.holds(key(ANYBODY)) == []
    assert view.hold(bytes(32)) is None


def test_names_finds_the_fallback_too(chain: Chain) -> None:
    fallback = Fallback(at(100), key(OTHER))
    terms = msgspec.structs.replace(hold_of(branch(After(0))), fallback=fallback)
    held = found(chain, open_hold(chain, terms))
    assert chain.ledger.view.holds(key(OTHER)) == [held]
    irrevocable = found(chain, open_hold(chain, hold_of(branch(After(0)), fallback_s=None)))
    assert not irrevocable.names(key(OTHER))


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (msgspec.structs.replace(hold_of(branch(After(0))), asset=1), Code.UNKNOWN_ASSET),
        (hold_of(branch(After(0)), branch(Signers(2, (b"A" * 32,)))), Code.BAD_CONDITION),
        (hold_of(branch(After(0), vesting=Vesting(2, 1, 3))), Code.BAD_CONDITION),
        (hold_of(branch(After(0)), fallback_s=1), Code.BAD_DEADLINE),
        (hold_of(branch(After(0)), fallback_s=0), Code.BAD_DEADLINE),
        (hold_of(branch(After(0)), amount=10**15), Code.INSUFFICIENT_FUNDS),
    ],
)
def test_hold_refuses(chain: Chain, terms: Hold, code: Code) -> None:
    assert chain.send(HOLDER, terms).code is code
    assert chain.ledger.view.supply().locked == 0
    assert chain.ledger.view.hold(hold_id(chain.genesis.chain_id, key(HOLDER), terms)) is None


def test_a_hold_is_opened_once_even_after_it_is_empty(chain: Chain) -> None:
    terms = hold_of(branch(After(0)))
    identity = open_hold(chain, terms)
    assert chain.send(HOLDER, terms).code is Code.HOLD_EXISTS
    assert chain.send(ANYBODY, claim_of(identity)).code is Code.DONE
    assert chain.send(HOLDER, terms).code is Code.HOLD_EXISTS
    other = msgspec.structs.replace(terms, salt=bytes([1]) * 32)
    assert open_hold(chain, other) != identity


def test_another_sender_of_the_same_terms_has_another_hold(chain: Chain) -> None:
    terms = hold_of(branch(After(0)))
    identity = hold_id(chain.genesis.chain_id, key(HOLDER), terms)
    assert chain.send(ANYBODY, terms).code is Code.DONE
    assert chain.ledger.view.hold(identity) is None
    assert open_hold(chain, terms) == identity


def test_timelock_pays_from_its_millisecond_on_and_once(chain: Chain) -> None:
    identity = open_hold(chain, hold_of(branch(After(at(10)))))
    early = chain.send(ANYBODY, claim_of(identity), step_ms=step_to(chain, 10) - 1)
    assert early.code is Code.CONDITION_UNMET
    receipt = chain.send(ANYBODY, claim_of(identity), step_ms=1)
    assert (receipt.code, receipt.paid) == (Code.DONE, (Payment(key(PAYEE), 100),))
    assert chain.made[-1].outcome.events == (HoldPaid(identity, 0, key(PAYEE), 100, 0),)
    assert chain.ledger.view.account(key(PAYEE)) == 100
    assert chain.ledger.view.supply().locked == 0
    assert chain.send(ANYBODY, claim_of(identity)).code is Code.HOLD_CLOSED
    assert chain.send(ANYBODY, Reclaim(identity)).code is Code.HOLD_CLOSED
    assert not found(chain, identity).reclaimed
    assert chain.ledger.view.holds(key(PAYEE)) == []


def test_hash_lock_pays_for_the_preimage_whoever_shows_it(chain: Chain) -> None:
    identity = open_hold(chain, hold_of(branch(HashLock(sha256(SECRET)))))
    for wrong in ((), (b"",), (sha256(SECRET),), (SECRET + b"\0",)):
        refused = chain.send(ANYBODY, claim_of(identity, preimages=wrong))
        assert refused.code is Code.CONDITION_UNMET
    receipt = chain.send(ANYBODY, claim_of(identity, preimages=(b"x", SECRET)))
    assert (receipt.code, receipt.paid) == (Code.DONE, (Payment(key(PAYEE), 100),))


def test_at_the_fallback_time_claims_end_and_the_reclaim_begins(chain: Chain) -> None:
    """Never both in one millisecond: the two sides of a swap cannot race."""
    identity = open_hold(chain, hold_of(branch(HashLock(sha256(SECRET)))))
    early = chain.send(ANYBODY, Reclaim(identity), step_ms=step_to(chain, 100) - 1)
    assert early.code is Code.TOO_EARLY
    late = chain.send(ANYBODY, claim_of(identity, preimages=(SECRET,)), step_ms=1)
    assert late.code is Code.TOO_LATE
    before = chain.ledger.view.account(key(HOLDER))
    receipt = chain.send(ANYBODY, Reclaim(identity), step_ms=1)
    assert (receipt.code, receipt.paid, receipt.returned) == (Code.DONE, (), 100)
    assert chain.made[-1].outcome.events == (HoldPaid(identity, None, key(HOLDER), 100, 0),)
    assert chain.ledger.view.account(key(HOLDER)) == before + 100
    assert found(chain, identity).reclaimed
    assert chain.send(ANYBODY, Reclaim(identity)).code is Code.HOLD_CLOSED


def test_claim_pays_until_the_last_millisecond_before_the_fallback(chain: Chain) -> None:
    identity = open_hold(chain, hold_of(branch(HashLock(sha256(SECRET)))))
    step_ms = step_to(chain, 100) - 1
    paid = chain.send(ANYBODY, claim_of(identity, preimages=(SECRET,)), step_ms=step_ms)
    assert paid.code is Code.DONE


def test_unknown_things_are_refused(chain: Chain) -> None:
    identity = open_hold(chain, hold_of(branch(After(0)), fallback_s=None))
    assert chain.send(ANYBODY, claim_of(bytes(32))).code is Code.UNKNOWN_HOLD
    assert chain.send(ANYBODY, Reclaim(bytes(32))).code is Code.UNKNOWN_HOLD
    assert chain.send(ANYBODY, claim_of(identity, 1)).code is Code.UNKNOWN_BRANCH
    assert chain.send(ANYBODY, Reclaim(identity)).code is Code.NO_FALLBACK
    assert found(chain, identity).left == 100


def two_of_three() -> Signers:
    return Signers(2, tuple(key(number) for number in (70, 71, 72)))


def test_two_of_three_decide_which_branch_pays(chain: Chain) -> None:
    """A purchase with an arbiter: either side and the arbiter, or both sides, agree."""
    network = chain.genesis.chain_id
    identity = open_hold(chain, hold_of(branch(two_of_three()), branch(two_of_three(), OTHER)))
    first, second = (approve(network, identity, 1, signer_of(number)) for number in (70, 72))
    assert chain.send(ANYBODY, claim_of(identity, 1, first)).code is Code.CONDITION_UNMET
    stranger = approve(network, identity, 1, signer_of(73))
    assert chain.send(ANYBODY, claim_of(identity, 1, first, stranger)).code is Code.CONDITION_UNMET
    receipt = chain.send(ANYBODY, claim_of(identity, 1, second, first))
    assert (receipt.code, receipt.paid) == (Code.DONE, (Payment(key(OTHER), 100),))


def test_approvals_hold_for_one_network_hold_and_branch(chain: Chain) -> None:
    network = chain.genesis.chain_id
    terms = hold_of(branch(two_of_three()), branch(two_of_three(), OTHER))
    identity = open_hold(chain, terms)
    twin = open_hold(chain, msgspec.structs.replace(terms, salt=bytes([1]) * 32))
    good = approve(network, identity, 0, signer_of(70))
    for foreign in (
        approve(bytes(8), identity, 0, signer_of(71)),
        approve(network, twin, 0, signer_of(71)),
        approve(network, identity, 1, signer_of(71)),
        Approval(key=key(71), signature=good.signature),
        Approval(key=key(71), signature=bytes(64)),
    ):
        assert chain.send(ANYBODY, claim_of(identity, 0, good, foreign)).code is Code.BAD_APPROVAL
    assert chain.send(ANYBODY, claim_of(identity, 0, good, good)).code is Code.BAD_APPROVAL
    assert found(chain, identity).left == 100


def test_vesting_pays_what_has_vested_and_not_again(chain: Chain) -> None:
    schedule = Vesting(at(0), at(10), at(40))
    terms = hold_of(branch(After(0), vesting=schedule), fallback_s=None, amount=101)
    identity = open_hold(chain, terms)

    def claim(seconds: int) -> tuple[Code, int]:
        step_ms = step_to(chain, seconds)
        receipt = chain.send(ANYBODY, claim_of(identity), step_ms=step_ms)
        return receipt.code, sum(payment.amount for payment in receipt.paid)

    assert claim(9) == (Code.NOTHING_VESTED, 0)
    assert claim(10) == (Code.DONE, 101 * 10 // 40)
    again = chain.send(ANYBODY, claim_of(identity), step_ms=1)
    assert again.code is Code.NOTHING_VESTED
    assert claim(20) == (Code.DONE, 101 * 20 // 40 - 101 * 10 // 40)
    assert found(chain, identity).left == 101 - 50
    assert claim(40) == (Code.DONE, 51)
    assert claim(41) == (Code.HOLD_CLOSED, 0)
    assert chain.ledger.view.account(key(PAYEE)) == 101


def test_vesting_counts_what_another_branch_took(chain: Chain) -> None:
    """The second branch lets half out at once; the first pays nothing until more has vested."""
    slow = branch(After(0), vesting=Vesting(at(0), at(0), at(100)))
    fast = branch(HashLock(sha256(SECRET)), OTHER, Vesting(at(0), at(0), at(20)))
    identity = open_hold(chain, hold_of(slow, fast, fallback_s=None))
    taken = chain.send(ANYBODY, claim_of(identity, 1, preimages=(SECRET,)), step_ms=9_000)
    assert taken.paid == (Payment(key(OTHER), 50),)
    assert chain.send(ANYBODY, claim_of(identity)).code is Code.NOTHING_VESTED
    rest = chain.send(ANYBODY, claim_of(identity), step_ms=step_to(chain, 60))
    assert rest.paid == (Payment(key(PAYEE), 10),)


def test_conditions_join(chain: Chain) -> None:
    """After a time and either a secret or two of three."""
    either = AtLeast(1, (HashLock(sha256(SECRET)), two_of_three()))
    identity = open_hold(chain, hold_of(branch(AtLeast(2, (After(at(10)), either)))))
    with_secret = claim_of(identity, preimages=(SECRET,))
    assert chain.send(ANYBODY, with_secret).code is Code.CONDITION_UNMET
    step_ms = step_to(chain, 10)
    assert chain.send(ANYBODY, claim_of(identity), step_ms=step_ms).code is Code.CONDITION_UNMET
    assert chain.send(ANYBODY, with_secret).code is Code.DONE
