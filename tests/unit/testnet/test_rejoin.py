"""Bars and options of the wiped node; the trial itself needs daemons."""

import io

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.rejoin import BAR_SECONDS, Options, failures, measure
from prsm.testnet.report import Screen


def test_time_above_the_bar_is_a_failure() -> None:
    """And says for how many accounts."""
    assert failures({"accounts": 100_000, "seconds": BAR_SECONDS}) == []
    assert "100000 accounts" in failures({"accounts": 100_000, "seconds": 15.01})[0]


@pytest.mark.parametrize("accounts", [0, 10_000_001])
def test_number_of_accounts_out_of_bounds_is_refused(accounts: int) -> None:
    """Before a network is made."""
    with pytest.raises(LocalError, match="at least 1"):
        measure(Options(accounts=accounts), Screen(io.StringIO()))
