"""Whose vote counts for whom: one step, own votes first, and only for what opens later."""

import msgspec
import pytest

from prsm.consensus.ledger.proposals import Tally
from prsm.protocol.governance import Category
from prsm.protocol.transactions.governance import Delegate
from prsm.protocol.transactions.membership import Leave
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, small_genesis
from tests.tools.decisions import NO, SMALL, YES, found, opened, proposal_of, vote, voting_chain
from tests.tools.members import done, join_of, key, roll


@pytest.fixture
def chain() -> Chain:
    return voting_chain()


def test_delegate_votes_for_both_and_an_own_vote_overrides(chain: Chain) -> None:
    community = Category.COMMUNITY
    done(chain.send(33, Delegate(community, key(35)), step_ms=1).code)
    assert chain.ledger.view.delegate(key(33), community) == key(35)
    proposal = opened(chain, proposal_of(category=community))
    other = opened(chain, proposal_of(("fee_base", 1)))
    vote(chain, proposal, k35=YES)
    vote(chain, other, k35=YES)
    assert found(chain, proposal).tally().yes == 400 * FTNS
    assert found(chain, other).tally().yes == 100 * FTNS, "of another category"
    vote(chain, proposal, k33=NO)
    assert found(chain, proposal).tally() == Tally(100 * FTNS, 300 * FTNS, 0, 1_000 * FTNS)


def test_delegation_counts_for_later_proposals_only(chain: Chain) -> None:
    """What somebody arranges during a vote, or after it, does not change it."""
    community = Category.COMMUNITY
    proposal = opened(chain, proposal_of(category=community))
    done(chain.send(33, Delegate(community, key(35)), step_ms=1).code)
    vote(chain, proposal, k35=YES)
    assert found(chain, proposal).tally().yes == 100 * FTNS
    later = opened(chain, proposal_of(category=community, text="later"))
    done(chain.send(33, Delegate(community, None), step_ms=1).code)
    vote(chain, later, k35=YES)
    assert found(chain, later).tally().yes == 400 * FTNS


def test_no_chain_no_cycle_no_stranger(chain: Chain) -> None:
    community = Category.COMMUNITY
    done(chain.send(33, Delegate(community, key(35)), step_ms=1).code)
    for sender, to, code in (
        (33, key(35), Code.NO_CHANGE),
        (32, None, Code.NO_CHANGE),
        (34, key(33), Code.BAD_DELEGATE),
        (35, key(34), Code.BAD_DELEGATE),
        (35, key(33), Code.BAD_DELEGATE),
        (32, key(32), Code.BAD_DELEGATE),
        (32, key(64), Code.BAD_DELEGATE),
        (64, key(32), Code.NOT_OPERATOR),
    ):
        assert chain.send(sender, Delegate(community, to), step_ms=1).code is code
    done(chain.send(35, Delegate(Category.SAFETY, key(33)), step_ms=1).code)
    done(chain.send(33, Delegate(community, key(34)), step_ms=1).code)
    done(chain.send(35, Delegate(community, key(34)), step_ms=1).code)
    for sender in (33, 35):
        done(chain.send(sender, Delegate(community, None), step_ms=1).code)
    done(chain.send(34, Delegate(community, key(33)), step_ms=1).code)


def test_delegate_who_is_no_elector_does_not_count() -> None:
    stakes = (400 * FTNS, 300 * FTNS, 10 * FTNS)
    chain = Chain(small_genesis(stakes=stakes, parameters=SMALL))
    done(chain.send(33, Delegate(Category.COMMUNITY, key(34)), step_ms=1).code)
    proposal = opened(chain, proposal_of(category=Category.COMMUNITY))
    assert [each.delegate for each in found(chain, proposal).electors] == [None, None]


def joined() -> Chain:
    """As `voting_chain`, and 64 is in the roster."""
    stakes = tuple(n * 100 * FTNS for n in (4, 3, 2, 1))
    parameters = msgspec.structs.replace(SMALL, stake_min=10 * FTNS)
    chain = Chain(small_genesis(stakes=stakes, parameters=parameters))
    done(chain.send(64, join_of(chain, 64, 20, 10 * FTNS), step_ms=1).code)
    return chain


def test_who_leaves_the_roster_holds_up_nobody() -> None:
    """It cannot take back what it delegated: its delegate could never delegate again."""
    chain, community = joined(), Category.COMMUNITY
    for category in Category:
        done(chain.send(64, Delegate(category, key(33)), step_ms=1).code)
    assert chain.send(33, Delegate(community, key(32)), step_ms=1).code is Code.BAD_DELEGATE
    done(chain.send(64, Leave(), step_ms=1).code)
    roll(chain, 3)
    assert key(64) not in chain.ledger.view.roster()
    for category in Category:
        assert chain.ledger.view.delegate(key(64), category) is None
        done(chain.send(33, Delegate(category, key(32)), step_ms=1).code)


def test_who_delegated_to_one_that_left_may_choose_again() -> None:
    chain, community = joined(), Category.COMMUNITY
    done(chain.send(33, Delegate(community, key(64)), step_ms=1).code)
    done(chain.send(64, Leave(), step_ms=1).code)
    roll(chain, 3)
    done(chain.send(33, Delegate(community, key(32)), step_ms=1).code)
    done(chain.send(64, join_of(chain, 64, 21, 10 * FTNS), step_ms=1).code)
    done(chain.send(64, Delegate(community, key(32)), step_ms=1).code)
