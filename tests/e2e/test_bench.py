"""The bench against real daemons: all of a small load is agreed on."""

import pytest

from prsm.testnet.bench.run import Options, run_bench

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_stream_of_transfers_is_final_at_weight_f_plus() -> None:
    """Two seconds of 50 a second at four daemons: none refused, failed or unanswered."""
    figures = run_bench(Options(rate=50, seconds=2, accounts=50))
    assert figures.committed > 0
    assert figures.p50_ms > 0
    assert (figures.failed, figures.unanswered, figures.lost) == (0, 0, {})
