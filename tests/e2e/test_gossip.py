"""Announcements between real processes over links that lose records: repair brings them back."""

import msgspec
import pytest

from prsm.testnet.gossip import Figures, Options, failures, run_gossip

# Nine records of ten are lost on every link, and segments too.
BAD = Options(nodes=4, seconds=4, dials=2, lossy=1.0, loss=0.05, drop=0.9)


@pytest.mark.e2e
@pytest.mark.slow
def test_lost_records_are_pulled() -> None:
    """Without a bar on time: the gate shares its machine."""
    figures = run_gossip(BAD)
    assert figures.published == 40
    assert figures.lossy_links == figures.links
    assert figures.delivered_percent >= 99
    assert figures.repaired >= 40


@pytest.mark.e2e
@pytest.mark.long
def test_without_repair_lost_records_stay_lost() -> None:
    figures = run_gossip(msgspec.structs.replace(BAD, repairs=False))
    assert figures.delivered_percent < 75
    assert figures.repaired == 0


def test_bars_are_those_of_a_clear_and_of_a_lossy_network() -> None:
    good = Figures(
        links=1,
        lossy_links=0,
        published=1_000,
        expected=1_000,
        delivered=995,
        delivered_percent=99.5,
        repaired=0,
        p50_ms=10,
        p99_ms=500,
        max_ms=600,
        cpu_ms=1.0,
        rss_mib=1.0,
        others_percent=0.0,
        commit="",
        machine="",
    )
    assert failures(Options(), good) == ["99.5 % delivered, at least 99.9 %"]
    assert failures(Options(lossy=0.2), good) == []
    assert failures(Options(repairs=False), good) == []
