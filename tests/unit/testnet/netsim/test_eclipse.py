"""Restarts with a poisoned book: honest links stay, and without the guard they do not."""

import pytest

from prsm.testnet.netsim.eclipse import Siege, play


@pytest.mark.slow
@pytest.mark.parametrize("groups", [32, 1_000])
def test_poisoned_book_still_leads_to_honest_peers(groups: int) -> None:
    outcome = play(Siege(groups=groups), 50)
    assert outcome.with_honest == outcome.runs == 50
    assert outcome.known_sybils > outcome.known_honest


def test_without_the_guard_half_of_the_restarts_are_eclipsed() -> None:
    outcome = play(Siege(guard=False), 50)
    assert 0.2 < outcome.share < 0.7


def test_anchors_lead_to_honest_peers_too() -> None:
    outcome = play(Siege(anchors_lost=False, gone=0), 50)
    assert outcome.share == 1.0
    assert outcome.honest_links > 50
