"""A network of two versions: nodes restarted one by one under load, no fork, no long gap."""

import io

import pytest

from prsm.testnet.report import Screen
from prsm.testnet.rolling import Options, failures, measure

pytestmark = pytest.mark.e2e


def test_half_of_a_network_is_upgraded_under_load() -> None:
    """Two nodes of the schema before and two of this one agree; the older programs are composed."""
    options = Options(rate=10, hold_s=0.5, upgraded=2)
    document = measure(options, Screen(io.StringIO(), quiet=True))
    assert failures(document) == []
    assert document["restarts"] == 2
    assert document["open"] == 0
    assert document["acknowledged"] == document["sent"]


@pytest.mark.long
def test_whole_network_is_upgraded_and_taken_back_under_load() -> None:
    options = Options(back=True)
    document = measure(options, Screen(io.StringIO(), quiet=True))
    assert failures(document) == []
    assert document["restarts"] == 8
