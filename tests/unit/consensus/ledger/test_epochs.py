"""When an epoch ends, what the state keeps of it, and what a restart finds again."""

import msgspec
import pytest

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.bonds import matured, parted, slashed
from prsm.consensus.ledger.context import EpochBegan, FewValidators
from prsm.consensus.ledger.epochs import end_block
from prsm.consensus.ledger.records import TURNS_KEY, Bond, Leaving
from prsm.consensus.ledger.state import State
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import BadGenesis, Parameters, check
from prsm.protocol.limits import LEAVING_MAX
from prsm.protocol.schedule import Turns
from prsm.protocol.transactions.membership import Leave, Stake
from prsm.testnet.chain import FTNS, Chain, altered, small_genesis
from tests.tools.members import EPOCH_MS, SHORT, UNBONDING_MS, done, roll, short_chain, weights


@pytest.fixture
def chain() -> Chain:
    return short_chain()


def test_epoch_ends_ten_heights_and_its_time_after_its_first_block(chain: Chain) -> None:
    """Neither alone suffices: not ten quick blocks, not one late one."""
    chain.add(step_ms=60_000)  # the first block may come late: its own time counts
    for _ in range(9):
        chain.add(step_ms=100)
    assert chain.ledger.epoch.number == 0, "nine heights after the first"
    chain.add(step_ms=99)
    assert chain.ledger.epoch.number == 0, "999 ms after the first"
    made = chain.add(step_ms=1)
    assert made.block.header.height == 12
    assert made.block.header.epoch == 0
    epoch = chain.ledger.epoch
    assert (epoch.number, epoch.first, epoch.following.epoch) == (1, 13, 2)
    assert made.outcome.events == (EpochBegan(1, 13, 4, 400 * FTNS),)
    chain.add(step_ms=60_000)
    for _ in range(9):
        chain.add(step_ms=EPOCH_MS)
        assert chain.ledger.epoch.number == 1
    chain.add(step_ms=1)
    assert chain.ledger.epoch.number == 2


def test_sets_say_from_which_height_they_sign_and_until_when(chain: Chain) -> None:
    """Evidence of a height is judged by the set that signed there."""
    view = chain.ledger.view
    first, second = view.epoch_set(0), view.epoch_set(1)
    assert first is not None
    assert second is not None
    assert (first.first_height, first.ended_ms) == (1, None)
    assert (second.first_height, second.ended_ms) == (None, None)
    roll(chain)
    ended, begun = view.epoch_set(0), view.epoch_set(1)
    assert ended is not None
    assert begun is not None
    assert (ended.first_height, ended.ended_ms) == (1, chain.ledger.tip.time_ms)
    assert (begun.first_height, begun.ended_ms) == (chain.ledger.height + 1, None)


def test_turns_go_by_the_view_in_which_the_parent_was_decided(chain: Chain) -> None:
    """Who let views pass loses its turns: docs/spec/pbft.md, "Proposer schedule"."""
    chain.add()
    block, epoch = chain.propose(), chain.ledger.epoch
    certificate = block.body.prev_cert
    assert certificate is not None
    found = []
    for view in (0, 2):
        late = msgspec.structs.replace(certificate, view=view)
        body = msgspec.structs.replace(block.body, prev_cert=late)
        state = State(dict(chain.ledger._state))
        changed = msgspec.structs.replace(block, body=body)
        after, _ = end_block(state, epoch, changed, chain.ledger.parameters)
        assert after == epoch.after(block.header.height, late)
        assert state.read(TURNS_KEY, Turns) == after.turns
        found.append(after.turns)
    assert found[0] != found[1]


def test_header_of_the_epoch_before_is_refused(chain: Chain) -> None:
    roll(chain)
    block = chain.propose()
    for wrong, what in (
        (altered(block, epoch=0), "epoch 0"),
        (altered(block, validators_hash=chain.ledger.epoch.following_hash), "validators"),
        (altered(block, next_validators_hash=block.header.validators_hash), "next validators"),
    ):
        reason = chain.ledger.judge(wrong, wall_ms=None)
        assert reason is not None
        assert what in reason


def test_restart_at_any_height_finds_the_same_epoch(chain: Chain) -> None:
    """At the border the tip was certified by a set that is no longer the present one."""
    done(chain.send(35, Leave(), step_ms=1).code)
    for _ in range(40):
        chain.add(step_ms=EPOCH_MS // 10)
        ledger = chain.ledger
        again = Ledger(
            chain.genesis, dict(ledger._state), verifier=Ed25519Verifier(), tip=ledger.tip
        )
        assert again.epoch == ledger.epoch
        for height in (ledger.height, ledger.height + 1):
            assert again.validators(height) == ledger.validators(height)
        assert again.state_root == ledger.state_root
    assert weights(chain) == {32: 100, 33: 100, 34: 100}


def test_follower_computes_the_same_sets(chain: Chain) -> None:
    follower = Ledger(chain.genesis, {}, verifier=Ed25519Verifier(), tip=None)
    chain.send(32, Stake(150 * FTNS), step_ms=1)
    roll(chain, 3)
    for made in chain.made:
        follower.commit(follower.apply(made.block))
    assert follower.epoch == chain.ledger.epoch
    assert follower.state_root == chain.ledger.state_root


def test_sets_are_kept_for_the_unbonding_period_and_then_forgotten(chain: Chain) -> None:
    view = chain.ledger.view
    roll(chain, 2)
    ended = chain.ledger.tip.time_ms
    past = view.epoch_set(1)
    assert past is not None
    assert (past.ended_ms, past.members.epoch) == (ended, 1)
    first = view.epoch_set(0)
    assert first is not None
    assert first.ended_ms is not None
    assert view.epoch_set(4) is None
    assert view.epoch_set(2**32) is None
    chain.add(step_ms=1)
    chain.add(step_ms=UNBONDING_MS - 3_000)
    roll(chain)
    assert view.epoch().oldest == 0
    chain.add(step_ms=3_000)
    roll(chain)
    assert view.epoch().oldest == 2
    assert view.epoch_set(1) is None
    assert view.epoch_set(2) is not None


def test_a_rollover_forgets_eight_sets_at_most(chain: Chain) -> None:
    roll(chain, 10)
    chain.add(step_ms=2 * UNBONDING_MS)
    roll(chain)
    assert chain.ledger.view.epoch().oldest == 8
    chain.add(step_ms=2 * UNBONDING_MS)
    roll(chain)
    assert chain.ledger.view.epoch().oldest == 11, "the last one stays: it certified the tip"
    assert chain.ledger.epoch.number == 12


def test_fewer_than_four_is_said_at_each_border(chain: Chain) -> None:
    done(chain.send(35, Leave(), step_ms=1).code)
    roll(chain)
    assert FewValidators(2, 3) in chain.made[-1].outcome.events


@pytest.mark.parametrize(
    "wrong",
    [
        Parameters(epoch_ms=1_000, unbonding_ms=1_999),
        Parameters(epoch_ms=1_000, unbonding_ms=16_385_000),
        Parameters(timeout_cap_ms=10),
    ],
)
def test_parameters_that_contradict_each_other_start_no_network(wrong: Parameters) -> None:
    with pytest.raises(BadGenesis):
        check(small_genesis(parameters=wrong))
    check(small_genesis(parameters=SHORT))


def empty_bond(stake: int, *parts: Leaving) -> Bond:
    return Bond(stake, 0, bytes(32), "p", 0, parts, tombstoned=False)


def test_seventeenth_part_joins_its_nearest() -> None:
    bond = empty_bond(200)
    for i in range(LEAVING_MAX):
        bond = parted(bond, i + 1, 100 * i + (50 if i == 7 else 0))
    bond = parted(bond, 5, 1_601)
    assert len(bond.leaving) == LEAVING_MAX
    assert bond.leaving[7] == Leaving(8 + 9, 800), "both amounts, at the later of both times"
    assert sum(part.amount for part in bond.leaving) == sum(range(17)) + 5
    bond, amount = matured(bond, 799)
    assert amount == sum(range(8))
    assert matured(bond, 1_601) == (
        msgspec.structs.replace(bond, stake=200 - 136 - 5, leaving=()),
        136 + 5 - 28,
    )


@pytest.mark.parametrize("bps", [0, 1, 3_333, 9_999, 10_000])
def test_slashing_takes_the_same_part_of_what_leaves(bps: int) -> None:
    parts = tuple(Leaving(7, i) for i in range(16))
    bond, penalty = slashed(empty_bond(16 * 7, *parts), bps)
    assert penalty == 112 * bps // 10_000
    assert bond.stake == 112 - penalty
    assert bond.held >= 0
    assert all(part.amount * 10_000 <= 7 * (10_000 - bps) for part in bond.leaving)
