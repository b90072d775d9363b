"""What distance costs, measured as `prsm-testnet wan` does, but shorter."""

import io

import pytest

from prsm.testnet.report import Screen
from prsm.testnet.wan import Options, failures, measure

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_slow_links_cost_what_their_delay_says() -> None:
    """Three one-way delays at least in a write: proposal, and two rounds of votes."""
    options = Options(writes=5, jobs=1)
    document = measure(options, Screen(io.StringIO(), quiet=True))
    assert failures(document) == []
    match document:
        case {"loopback": {"write_ms": {"p50": float(near)}}, "wan": {"write_ms": {"p50": far}}}:
            assert near + 3 * options.delay_ms < far < near + 20 * options.delay_ms
        case _:
            pytest.fail(f"{document}")
