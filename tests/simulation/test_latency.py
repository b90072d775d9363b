"""How long a transaction takes in virtual time, with f nodes dead and messages lost."""

import pytest

from prsm.testnet.outages import shape
from prsm.testnet.sim.latency import latencies_ms, plan_of

pytestmark = pytest.mark.slow


def test_dead_proposer_costs_a_timeout_and_little_more() -> None:
    """Undisturbed a few delays; with f dead the 99th of a hundred is one timeout and some."""
    base_ms = plan_of(1, loss=0).parameters.timeout_base_ms
    delay_ms = plan_of(1, loss=0).delay_ms[1]
    undisturbed = shape([float(each) for each in latencies_ms([1], loss=0, dead=0)])
    assert undisturbed["max"] < base_ms
    dead = shape([float(each) for each in latencies_ms([1], loss=0, dead=1)])
    assert dead["p50"] < base_ms
    # The empty block before it may have met the dead one as well.
    assert dead["p99"] <= base_ms + 8 * delay_ms + 20


def test_tenth_of_all_messages_lost_costs_less_than_three_timeouts() -> None:
    """With f dead each message of the others must arrive: they say them again in time."""
    base_ms = plan_of(1, loss=0).parameters.timeout_base_ms
    found = shape([float(each) for each in latencies_ms(range(1, 9), loss=100, dead=1)])
    assert found["p99"] <= 3 * base_ms
