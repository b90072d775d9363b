"""Operators join, weigh more or less, rotate, leave and withdraw; each refusal by its code."""

import msgspec
import pytest

from prsm.consensus.ledger.errors import BondState, Conflict, refusal
from prsm.consensus.ledger.records import ROSTER_KEY, Roster, bond_key
from prsm.protocol.codec import encode
from prsm.protocol.limits import ROSTER_MAX
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import evidence_of
from prsm.protocol.transactions.membership import Leave, Stake, Withdraw
from prsm.protocol.transactions.results import Code, Payment
from prsm.testnet.chain import FTNS, Chain
from tests.tools.members import (
    EPOCH_MS,
    UNBONDING_MS,
    done,
    join_of,
    key,
    roll,
    rotate_of,
    short_chain,
    weights,
)
from tests.tools.votes import vote_of

OLD = {32: 100, 33: 100, 34: 100, 35: 100}


@pytest.fixture
def chain() -> Chain:
    return short_chain()


def test_who_joins_weighs_in_the_epoch_after_next_and_not_before(chain: Chain) -> None:
    view = chain.ledger.view
    before = view.account(key(64))
    receipt = chain.send(64, join_of(chain, 64, 8, 50 * FTNS), step_ms=1)
    done(receipt.code)
    assert view.account(key(64)) == before - receipt.fee - 50 * FTNS
    assert (view.bond(key(64)), view.supply().bonded) == (50 * FTNS, 450 * FTNS)
    assert weights(chain) == weights(chain, following=True) == OLD
    roll(chain)
    assert weights(chain) == OLD
    assert weights(chain, following=True) == OLD | {64: 50}
    roll(chain)
    assert weights(chain) == OLD | {64: 50}
    newcomer = chain.ledger.epoch.validators.validators[4]
    assert (newcomer.consensus, newcomer.peer_id) == (key(8), "peer8")
    roll(chain)  # its blocks carry certificates of five


def test_least_stake_is_enough_to_join(chain: Chain) -> None:
    least = chain.ledger.parameters.stake_min
    below = chain.send(64, join_of(chain, 64, 8, least - 1), step_ms=1)
    assert below.code is Code.STAKE_TOO_SMALL
    done(chain.send(64, join_of(chain, 64, 8, least), step_ms=1).code)


def test_wish_said_again_waits_behind_those_that_were_said_before(chain: Chain) -> None:
    """What may move in an epoch goes by the order of wishes: docs/spec/ledger.md."""
    for operator, target in ((32, 110), (33, 110), (32, 120)):
        done(chain.send(operator, Stake(target * FTNS), step_ms=1).code)
    first, second = (chain.ledger.view.membership(key(operator)) for operator in (33, 32))
    assert first is not None
    assert second is not None
    assert first.order < second.order


def test_what_must_wait_stays_bonded_until_it_weighs(chain: Chain) -> None:
    """400 weigh, so 133 a time may come."""
    done(chain.send(64, join_of(chain, 64, 8, 200 * FTNS), step_ms=1).code)
    roll(chain)
    assert weights(chain, following=True) == OLD | {64: 133}
    roll(chain)
    bond = chain.ledger.view.membership(key(64))
    assert bond is not None
    assert (bond.held, bond.leaving) == (200 * FTNS, ())
    assert weights(chain, following=True) == OLD | {64: 200}


def test_join_is_refused(chain: Chain) -> None:
    good = join_of(chain, 64, 8, 50 * FTNS)
    change = msgspec.structs.replace
    for sender, payload, code in (
        (32, join_of(chain, 32, 8, 50 * FTNS), Code.ALREADY_VALIDATOR),
        (64, change(good, stake=10 * FTNS - 1), Code.STAKE_TOO_SMALL),
        (64, join_of(chain, 64, 1, 50 * FTNS), Code.KEY_USED),
        (64, change(good, peer_id="peer1"), Code.PEER_USED),
        (64, change(good, possession=bytes(64)), Code.BAD_POSSESSION),
        (65, good, Code.BAD_POSSESSION),
        (64, join_of(chain, 64, 8, 5_000 * FTNS), Code.INSUFFICIENT_FUNDS),
    ):
        assert chain.send(sender, payload, step_ms=1).code is code
    assert chain.ledger.view.roster() == tuple(sorted(key(32 + i) for i in range(4)))
    assert chain.ledger.view.key_owner(key(8)) is None
    done(chain.send(64, good, step_ms=1).code)
    assert chain.ledger.view.key_owner(key(8)) == key(64)


def test_join_waits_for_a_place_in_the_roster(chain: Chain) -> None:
    full = Roster(tuple(bytes([i]) * 32 for i in range(ROSTER_MAX)), changes=ROSTER_MAX)
    chain.ledger._state[ROSTER_KEY] = encode(full)
    receipt = chain.send(64, join_of(chain, 64, 8, 50 * FTNS), step_ms=1)
    assert receipt.code is Code.ROSTER_FULL


def test_stake_up_takes_what_the_bond_lacks(chain: Chain) -> None:
    view = chain.ledger.view
    before = view.account(key(32))
    receipt = chain.send(32, Stake(130 * FTNS), step_ms=1)
    done(receipt.code)
    assert view.account(key(32)) == before - receipt.fee - 30 * FTNS
    assert view.bond(key(32)) == 130 * FTNS
    assert chain.send(32, Stake(130 * FTNS), step_ms=1).code is Code.NO_CHANGE
    assert chain.send(32, Stake(9 * FTNS), step_ms=1).code is Code.STAKE_TOO_SMALL
    assert chain.send(32, Stake(9_000 * FTNS), step_ms=1).code is Code.INSUFFICIENT_FUNDS
    assert chain.send(64, Stake(50 * FTNS), step_ms=1).code is Code.NOT_VALIDATOR
    roll(chain, 2)
    assert weights(chain) == OLD | {32: 130}


def test_stake_down_and_up_again_before_the_border_moves_nothing(chain: Chain) -> None:
    done(chain.send(32, Stake(60 * FTNS), step_ms=1).code)
    before = chain.ledger.view.account(key(32))
    receipt = chain.send(32, Stake(100 * FTNS), step_ms=1)
    done(receipt.code)
    assert chain.ledger.view.account(key(32)) == before - receipt.fee
    roll(chain, 3)
    bond = chain.ledger.view.membership(key(32))
    assert bond is not None
    assert (bond.stake, bond.leaving) == (100 * FTNS, ())
    assert weights(chain) == OLD


def test_stake_down_can_be_withdrawn_after_the_unbonding_period(chain: Chain) -> None:
    done(chain.send(32, Stake(60 * FTNS), step_ms=1).code)
    roll(chain)
    assert weights(chain, following=True) == OLD | {32: 60}
    bond = chain.ledger.view.membership(key(32))
    assert bond is not None
    assert not bond.leaving, "it still weighs in the epoch that has begun"
    roll(chain)
    assert weights(chain) == OLD | {32: 60}
    left_ms = chain.ledger.tip.time_ms
    bond = chain.ledger.view.membership(key(32))
    assert bond is not None
    [part] = bond.leaving
    assert (part.amount, part.release_ms) == (40 * FTNS, left_ms + UNBONDING_MS)
    assert (bond.stake, bond.held) == (100 * FTNS, 60 * FTNS)
    early = chain.send(32, Withdraw(), step_ms=UNBONDING_MS - 1)
    assert early.code is Code.NOTHING_MATURED
    before = chain.ledger.view.account(key(32))
    receipt = chain.send(32, Withdraw(), step_ms=1)
    assert receipt.paid == (Payment(key(32), 40 * FTNS),)
    assert chain.ledger.view.account(key(32)) == before - receipt.fee + 40 * FTNS
    assert chain.ledger.view.supply().bonded == 360 * FTNS
    assert chain.send(32, Withdraw(), step_ms=1).code is Code.NOTHING_MATURED
    assert chain.send(64, Withdraw(), step_ms=1).code is Code.NOT_VALIDATOR


def test_who_leaves_is_gone_and_may_come_again_with_another_key(chain: Chain) -> None:
    done(chain.send(35, Leave(), step_ms=1).code)
    assert chain.send(35, Leave(), step_ms=1).code is Code.NO_CHANGE
    assert chain.send(64, Leave(), step_ms=1).code is Code.NOT_VALIDATOR
    roll(chain)
    assert chain.send(35, join_of(chain, 35, 8, 20 * FTNS), step_ms=1).code is (
        Code.ALREADY_VALIDATOR
    )
    roll(chain)
    assert weights(chain) == {32: 100, 33: 100, 34: 100}
    assert key(35) not in chain.ledger.view.roster()
    assert chain.send(35, Stake(50 * FTNS), step_ms=1).code is Code.NOT_VALIDATOR
    assert chain.send(35, join_of(chain, 35, 3, 20 * FTNS), step_ms=1).code is Code.KEY_USED
    done(chain.send(35, join_of(chain, 35, 8, 20 * FTNS), step_ms=1).code)
    assert chain.ledger.view.bond(key(35)) == 120 * FTNS, "the first stake still waits"
    roll(chain, 2)
    assert weights(chain)[35] == 20
    done(chain.send(35, Withdraw(), step_ms=UNBONDING_MS).code)
    assert chain.ledger.view.bond(key(35)) == 20 * FTNS


def test_who_changes_his_mind_before_he_is_gone_stays(chain: Chain) -> None:
    done(chain.send(35, Leave(), step_ms=1).code)
    roll(chain)
    assert 35 not in weights(chain, following=True)
    done(chain.send(35, Stake(100 * FTNS), step_ms=1).code)
    roll(chain)
    assert 35 not in weights(chain), "that set was announced"
    roll(chain)
    assert weights(chain) == OLD
    bond = chain.ledger.view.membership(key(35))
    assert bond is not None
    assert not bond.leaving


def test_rotated_key_signs_from_the_epoch_after_next(chain: Chain) -> None:
    done(chain.send(34, rotate_of(chain, 34, 9), step_ms=1).code)
    assert chain.send(34, rotate_of(chain, 34, 9), step_ms=1).code is Code.KEY_USED
    assert chain.send(33, rotate_of(chain, 33, 2), step_ms=1).code is Code.KEY_USED
    assert chain.send(64, rotate_of(chain, 64, 10), step_ms=1).code is Code.NOT_VALIDATOR
    forged = msgspec.structs.replace(rotate_of(chain, 33, 10), possession=bytes(64))
    assert chain.send(33, forged, step_ms=1).code is Code.BAD_POSSESSION
    taken = msgspec.structs.replace(rotate_of(chain, 33, 10), peer_id="peer9")
    assert chain.send(33, taken, step_ms=1).code is Code.PEER_USED
    roll(chain)
    epoch = chain.ledger.epoch
    assert [sets.validators[2].consensus for sets in (epoch.validators, epoch.following)] == [
        key(2),
        key(9),
    ]
    roll(chain)
    assert chain.ledger.epoch.validators.validators[2].consensus == key(9)
    roll(chain)
    assert chain.send(34, rotate_of(chain, 34, 2), step_ms=1).code is Code.KEY_USED


def test_tombstoned_operator_never_validates_again(chain: Chain) -> None:
    pair = [vote_of(chain, Kind.COMMIT, hash_, signer=2) for hash_ in (b"x" * 32, b"y" * 32)]
    done(chain.send(64, evidence_of(*pair), step_ms=1).code)
    for payload in (
        Stake(200 * FTNS),
        Leave(),
        rotate_of(chain, 34, 9),
        join_of(chain, 34, 9, 50 * FTNS),
    ):
        assert chain.send(34, payload, step_ms=1).code is Code.TOMBSTONED
    roll(chain, 2)
    assert weights(chain) == {32: 100, 33: 100, 35: 100}
    assert chain.send(34, join_of(chain, 34, 9, 50 * FTNS), step_ms=1).code is Code.TOMBSTONED
    done(chain.send(34, Withdraw(), step_ms=UNBONDING_MS + EPOCH_MS).code)
    assert chain.ledger.view.bond(key(34)) == 0


def test_bond_of_nobody_is_none(chain: Chain) -> None:
    assert chain.ledger.view.membership(key(70)) is None
    assert chain.ledger._state.get(bond_key(key(70))) is None


def test_balances_and_bonds_make_up_the_supply(chain: Chain) -> None:
    done(chain.send(64, join_of(chain, 64, 8, 50 * FTNS), step_ms=1).code)
    supply = chain.ledger.view.supply()
    assert chain.ledger.view.in_accounts() + supply.bonded == supply.minted


def test_refusals_have_classes() -> None:
    assert isinstance(refusal(Code.KEY_USED), Conflict)
    assert isinstance(refusal(Code.NOTHING_MATURED), BondState)
