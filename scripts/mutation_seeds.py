"""One simulated network a test, for scripts/mutation.py: the first of the gate's seeds."""

import pytest

from prsm.testnet.sim.world import run


@pytest.mark.parametrize("seed", range(80))
def test_seed_holds_every_invariant_and_goes_on(seed: int) -> None:
    """Agreement, honest keys, durability, liveness: docs/spec/pbft.md, "Invariants"."""
    outcome = run(seed)
    assert not outcome.violations
    assert outcome.heal_ms is not None
