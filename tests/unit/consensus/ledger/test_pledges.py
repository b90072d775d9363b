"""What is held of a pledge is held once: for a receipt, an audit or a case, never for two."""

import pytest

from prsm.consensus.ledger import pledges
from prsm.consensus.ledger.audit_records import Pledged, pledged_key
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.state import State
from prsm.protocol.transactions.results import Code

WHO = bytes(32)


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
