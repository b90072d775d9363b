"""What is held of a pledge is held once: for a receipt, an audit or a case, never for two."""

from typing import Final

import pytest

from prsm.consensus.ledger import pledges
from prsm.consensus.ledger.audit_records import Pledged, pledged_key
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.state import State
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.transactions.audits import Pledge, Redeem
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis
from tests.tools.audited import crowd_in

WHO: Final = bytes(32)


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


def listed_in(chain: Chain) -> set[bytes]:
    return {each.account for each in chain.ledger.view.pledgers()}


def test_full_list_stays_full_whoever_pledges_more() -> None:
    chain = Chain(small_genesis())
    first, second = (signer_of(number).public_key for number in (64, 65))
    assert chain.send(64, Pledge(FTNS)).code is Code.DONE
    crowd_in(chain, FTNS)
    full = listed_in(chain)
    assert len(full) == PLEDGERS_MAX
    assert chain.send(65, Pledge(500 * FTNS)).code is Code.DONE
    assert listed_in(chain) == full
    assert chain.send(64, Redeem(FTNS)).code is Code.DONE
    assert listed_in(chain) == full - {first}
    assert chain.send(65, Redeem(1)).code is Code.DONE
    assert listed_in(chain) == full - {first} | {second}
