"""A validator that lost its disk comes back by a snapshot: real daemons, a small ledger."""

import io

import pytest

from prsm.testnet.rejoin import Options, measure
from prsm.testnet.report import Screen

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_wiped_node_has_the_state_of_the_others_by_a_snapshot() -> None:
    """Three daemons over a filled ledger, a fourth without one: equal height and root."""
    document = measure(Options(accounts=200), Screen(io.StringIO()))
    assert (document["equal_root"], document["by_snapshot"]) == (True, True)
    height = document["height"]
    assert isinstance(height, int)
    assert height > 200
