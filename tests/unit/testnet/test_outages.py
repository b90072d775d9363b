"""Figures and bars of the outage trials; the trials themselves need daemons."""

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.outages import Options, check_options, failures, shape


def test_percentiles_are_values_that_were_seen() -> None:
    """The 99th of a hundred is the second largest; of few values it is the largest."""
    hundred = [float(number) for number in range(1, 101)]
    assert shape(hundred) == {"p50": 51.0, "p99": 99.0, "max": 100.0}
    assert shape([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "max": 3.0}
    assert shape([7.25]) == {"p50": 7.2, "p99": 7.2, "max": 7.2}


def test_figures_above_their_bars_are_failures() -> None:
    """Each bar by itself; a part that was not measured fails nothing."""
    good = {"kills": {"write_ms": {"p99": 3000.0}}, "loss": {"p99_timeouts": 3.0}}
    assert failures(dict(good)) == []
    assert failures({}) == []
    assert len(failures({**good, "kills": {"write_ms": {"p99": 3000.1}}})) == 1
    for part in ("loss", "simulated"):
        assert len(failures({**good, part: {"p99_timeouts": 3.01}})) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Options(trials=-1),
        Options(trials=10_001),
        Options(writes=-1),
        Options(simulated=-1),
        Options(loss=1.0),
        Options(loss=-0.1),
    ],
)
def test_trials_that_cannot_be_are_refused(bad: Options) -> None:
    """Before a network is made."""
    with pytest.raises(LocalError):
        check_options(bad)
