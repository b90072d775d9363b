"""Deals the treasury pays, by a vote alone: what a grant binds, how often, and how much."""

import msgspec
import pytest

from prsm.consensus.ledger.custody import grant_reward
from prsm.protocol.genesis import TREASURY, Parameters
from prsm.protocol.governance import Category
from prsm.protocol.transactions.custody import Accept, Entrust, Lapse, deal_id, grant_text
from prsm.protocol.transactions.governance import Ballot, Choice, Enact, Propose, proposal_id
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, small_genesis
from tests.tools.keepers import (
    ANYBODY,
    CLIENT,
    HOLDER,
    File,
    answer_of,
    begin,
    granted,
    key,
    terms_of,
    turn,
)

FILE = File()


def grant_of(chain: Chain, terms: Entrust, copies: int, **changes: object) -> bytes:
    """Put a grant to the vote and through it; returns the id of the proposal."""
    propose = Propose(
        salt=bytes(32),
        category=Category.COMMUNITY,
        text=grant_text(terms, copies),
        changes=(),
        halt=None,
    )
    propose = msgspec.structs.replace(propose, **changes)
    assert chain.send(32, propose).code is Code.DONE
    identity = proposal_id(chain.genesis.chain_id, key(32), propose)
    for operator in range(32, 36):
        chain.send(operator, Ballot(proposal=identity, choice=Choice.YES))
    voting = chain.ledger.parameters.community.voting_ms
    chain.add(step_ms=voting)
    assert chain.send(32, Enact(proposal=identity)).code is Code.DONE
    return identity


@pytest.fixture
def rich() -> Chain:
    """The proposer of a grant can pay the deposit; the treasury has something to give."""
    balances = dict.fromkeys((*range(32, 36), *range(64, 72)), 3000 * FTNS)
    return Chain(small_genesis(balances=balances))


def test_grant_pays_a_tenth_of_ftns_for_each_gigabyte_and_epoch(rich: Chain) -> None:
    terms = terms_of(FILE)
    assert grant_reward(replace_size(terms, 10**9), Parameters()) == 5 * 100_000
    assert grant_reward(replace_size(terms, 10**9), Parameters(epoch_ms=3_600_000)) == 8_333
    proposal = grant_of(rich, terms, 1)
    identity = begin(rich, granted(terms, proposal, 1))
    reward = 5 * 100_000 * FILE.size // 10**9
    assert reward == 20
    turn(rich)
    treasury = rich.ledger.view.account(TREASURY)
    receipt = rich.send(HOLDER, answer_of(rich, FILE, identity))
    deal = rich.ledger.view.deal(identity)
    assert deal is not None
    assert (deal.paid, deal.locked) == (20, 0)
    assert rich.ledger.view.account(TREASURY) == treasury + receipt.fee - receipt.paid[0].amount
    turn(rich, 2)
    before = rich.ledger.view.account(key(CLIENT))
    rich.send(ANYBODY, Lapse(identity))
    assert rich.ledger.view.account(key(CLIENT)) == before, "no share for who asked for a grant"


def replace_size(terms: Entrust, size: int) -> Entrust:
    return msgspec.structs.replace(terms, size=size)


def test_grant_is_for_these_terms_so_many_copies_and_each_holder_once(rich: Chain) -> None:
    terms = terms_of(FILE)
    proposal = grant_of(rich, terms, 2)
    good = granted(terms, proposal, 2)
    other = granted(terms, bytes(32), 2)
    assert rich.send(CLIENT, other).code is Code.BAD_GRANT
    assert rich.send(CLIENT, granted(terms, proposal, 3)).code is Code.BAD_GRANT
    longer = msgspec.structs.replace(good, rounds=21)
    assert rich.send(CLIENT, longer).code is Code.BAD_GRANT
    poor = msgspec.structs.replace(good, collateral=10 * 20 - 1)
    assert rich.send(CLIENT, poor).code is Code.BAD_TERMS
    begin(rich, good)
    twice = msgspec.structs.replace(good, salt=bytes([1]) * 32)
    assert rich.send(CLIENT, twice).code is Code.BAD_GRANT
    waiting = [msgspec.structs.replace(good, salt=bytes([n]) * 32, holder=key(n)) for n in (66, 67)]
    for offer in waiting:
        assert rich.send(CLIENT, offer).code is Code.DONE
    names = [deal_id(rich.genesis.chain_id, key(CLIENT), offer) for offer in waiting]
    assert rich.send(66, Accept(names[0])).code is Code.DONE
    assert rich.send(67, Accept(names[1])).code is Code.BAD_GRANT


def test_grant_not_enacted_pays_nothing(rich: Chain) -> None:
    terms = terms_of(FILE)
    propose = Propose(
        salt=bytes(32),
        category=Category.COMMUNITY,
        text=grant_text(terms, 1),
        changes=(),
        halt=None,
    )
    rich.send(32, propose)
    proposal = proposal_id(rich.genesis.chain_id, key(32), propose)
    assert rich.send(CLIENT, granted(terms, proposal, 1)).code is Code.BAD_GRANT
