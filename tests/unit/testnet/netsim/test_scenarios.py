"""Named networks: bars and switches."""

from dataclasses import replace

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.netsim.plan import Plan
from prsm.testnet.netsim.scenarios import (
    SCENARIOS,
    mesh_back_ms,
    mesh_ready_ms,
    scaled,
    without,
)
from prsm.testnet.netsim.world import Outcome, play


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return play(Plan(nodes=12, records=2, settle_ms=3_000, drain_ms=2_000))


def test_mesh_is_back_when_every_later_record_is_quick(outcome: Outcome) -> None:
    seen = replace(outcome, soon=((0, 100), (1_000, 1_000), (2_000, 100), (3_000, 992)))
    assert mesh_back_ms(seen, 500) == 2_500
    assert mesh_back_ms(seen, 2_500) == 0
    assert mesh_back_ms(replace(seen, soon=seen.soon[:3]), 500) is None
    assert mesh_ready_ms(replace(seen, mesh=((0, 0), (1_000, 995)))) == 1_000
    assert mesh_ready_ms(replace(seen, mesh=((0, 0),))) is None


def test_figures_below_the_bar_are_named(outcome: Outcome) -> None:
    assert SCENARIOS["lossy"].broken(outcome) == []
    worse = replace(outcome.figures, delivered=0.9, p99_ms=None, away_delivered=0.5)
    assert len(SCENARIOS["lossy"].broken(replace(outcome, figures=worse))) == 3
    late = replace(outcome.figures, within_6s=0.5)
    assert SCENARIOS["sybils"].broken(replace(outcome, figures=late))
    assert SCENARIOS["flash"].broken(replace(outcome, soon=((30_000, 0),)))
    assert SCENARIOS["cold"].broken(replace(outcome, mesh=((0, 0),)))


def test_smaller_network_keeps_the_ratio_of_sybils() -> None:
    plan = scaled(SCENARIOS["sybils"].plan, nodes=50, seed=3)
    assert (plan.nodes, plan.sybils, plan.seed) == (50, 1_000, 3)


def test_switch_that_does_not_exist_is_refused() -> None:
    plan = without(Plan(), ("repair", "guard"))
    assert (plan.repair, plan.scoring, plan.guard) == (False, True, False)
    with pytest.raises(LocalError, match="no switch 'luck'"):
        without(Plan(), ("luck",))
