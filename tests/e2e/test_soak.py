"""Two minutes of soak: every book is written and judged, nothing is lost; slopes are too short."""

import io
from pathlib import Path

import pytest

from prsm.testnet.report import Screen
from prsm.testnet.soak import newcomers, samples, visitors
from prsm.testnet.soak.run import Options, failures, run

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.long]


def test_soak_of_two_minutes_loses_nothing(tmp_path: Path) -> None:
    """Four daemons, faults, transfers, jobs, readers, two models."""
    options = Options(minutes=2, nodes=4, scale=2)
    document = run(options, tmp_path / "net", Screen(io.StringIO()))
    assert failures(document) == []
    assert {each.place for each in samples.read(tmp_path / "net")} == {0, 1, 2, 3}
    assert {each.place for each in visitors.read(tmp_path / "net")} == {0, 1, 2, 3}
    assert newcomers.read(tmp_path / "net")
