"""What is held of a pledge is held once: for a receipt, an audit or a case, never for two."""

from typing import Final

import pytest

from prsm.consensus.ledger import pledges
from prsm.consensus.ledger.audit_records import (
    PLEDGERS_KEY,
    Pledged,
    Pledger,
    Pledgers,
    pledged_key,
)
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.state import State
from prsm.protocol.codec import encode
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Pledge, Redeem
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis

WHO = bytes(32)
CROWD: Final = [sha256(number.to_bytes(2, "big")) for number in range(PLEDGERS_MAX)]


@pytest.fixture
def state() -> State:
    made = State({})
    made.write(pledged_key(WHO), Pledged(amount=10, held=0))
    return made


def test_no_more_is_held_than_is_free(state: State) -> None:
    pledges.hold(state, WHO, 6)
    with pytest.raises(Failed) as refused:
        pledges.hold(state, WHO, 5)
    assert refused.value.code is Code.NO_PLEDGE
    assert pledges.pledged(state, WHO) == Pledged(amount=10, held=6)
    pledges.hold(state, WHO, 4)
    assert pledges.pledged(state, WHO) == Pledged(amount=10, held=10)


def test_what_is_let_go_can_be_held_again(state: State) -> None:
    pledges.hold(state, WHO, 10)
    pledges.free(state, WHO, 3)
    pledges.hold(state, WHO, 3)
    assert pledges.pledged(state, WHO) == Pledged(amount=10, held=10)
    with pytest.raises(AssertionError):
        pledges.free(state, WHO, 11)


def test_who_pledged_nothing_has_nothing_to_hold() -> None:
    with pytest.raises(Failed):
        pledges.hold(State({}), WHO, 1)


@pytest.fixture
def crowded() -> Chain:
    """Accounts of the least pledge have all places; the last two came in one block."""
    chain = Chain(small_genesis())
    entries = [Pledger(each, min(since, PLEDGERS_MAX - 2)) for since, each in enumerate(CROWD)]
    listed = tuple(sorted(entries, key=lambda entry: entry.account))
    added = {pledged_key(each): encode(Pledged(FTNS, 0)) for each in CROWD}
    chain.ledger._state.update(added | {PLEDGERS_KEY: encode(Pledgers(listed))})
    return chain


def listed_in(chain: Chain) -> set[bytes]:
    found = chain.ledger.view.pledgers()
    assert len(found) <= PLEDGERS_MAX
    assert [each.account for each in found] == sorted(each.account for each in found)
    return {each.account for each in found}


def test_larger_pledge_takes_the_place_of_the_smallest_that_came_last(crowded: Chain) -> None:
    """Or 512 accounts of the least pledge would be all auditors and evaluators for ever."""
    newcomer, other = (signer_of(number).public_key for number in (64, 65))
    assert crowded.send(64, Pledge(FTNS)).code is Code.DONE
    assert listed_in(crowded) == set(CROWD), "as much as the smallest is not more"
    assert crowded.send(64, Pledge(1)).code is Code.DONE
    first_out, second_out = sorted(CROWD[-2:])
    assert listed_in(crowded) == {*CROWD, newcomer} - {first_out}
    assert crowded.send(65, Pledge(5 * FTNS)).code is Code.DONE
    assert listed_in(crowded) == {*CROWD, newcomer, other} - {first_out, second_out}
    since = {each.account: each.since for each in crowded.ledger.view.pledgers()}
    assert (since[newcomer], since[other]) == (2, 3)


def test_who_is_put_out_keeps_its_pledge_and_may_come_back(crowded: Chain) -> None:
    for number in (64, 65):
        assert crowded.send(number, Pledge(2 * FTNS)).code is Code.DONE
    assert crowded.send(65, Redeem(2 * FTNS)).code is Code.DONE
    assert len(listed_in(crowded)) == PLEDGERS_MAX - 1
    assert crowded.send(65, Pledge(FTNS)).code is Code.DONE
    assert signer_of(65).public_key in listed_in(crowded)
    assert not set(CROWD[-2:]) & listed_in(crowded)
    assert all(crowded.ledger.view.pledge(each).amount == FTNS for each in CROWD)
