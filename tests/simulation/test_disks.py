"""Harmed disks of a run: what is found at the next start, and that a refusing disk is no end."""

import pytest

from prsm.consensus.pbft.records import Voted, pack
from prsm.protocol.signing import Kind
from prsm.storage.errors import Full, StoreUnavailable
from prsm.testnet.sim.log import DiskLog
from prsm.testnet.sim.plan import DAMAGES, draw
from prsm.testnet.sim.world import World


def _vote(height: int) -> bytes:
    return pack(Voted(Kind.PREPARE, 0, height, 0, bytes(32)))


def _log(seed: int = 1) -> DiskLog:
    """A log with four votes, backed up after the first."""
    log = DiskLog(seed)
    assert log.open(0) == ((), None)
    for height in range(1, 5):
        log.append((_vote(height),))
        if height == 1:
            log.back_up()
    log.crash()
    return log


def test_log_without_harm_holds_every_vote() -> None:
    records, reason = _log().open(4)
    assert records == tuple(_vote(height) for height in range(1, 5))
    assert reason is None


@pytest.mark.parametrize("how", ["guard", "backup"])
def test_harmed_disk_makes_an_observer_that_keeps_its_files(how: str) -> None:
    log = _log()
    log.harm(how)
    assert log.open(4)[1] is not None
    log.append((_vote(5),))
    log.rotate(4, ())
    log.crash()
    records, reason = log.open(4)
    assert reason is not None
    assert _vote(5) not in records
    log.renew(9, (_vote(10),))
    log.crash()
    assert log.open(9) == ((_vote(10),), None)


def test_flipped_bit_costs_no_more_than_the_last_vote_after_a_power_cut() -> None:
    """There the guard may trail, and what peers show of that vote is the last line."""
    for seed in range(40):
        log = _log(seed)
        log.harm("flip")
        records, reason = log.open(4)
        assert reason is not None or len(records) >= 3


def test_wiped_disk_is_found_empty() -> None:
    log = _log()
    log.harm("wipe")
    assert log.open(0) == ((), None)


def test_refused_write_is_an_error_once() -> None:
    log = _log()
    log.open(4)
    log.refuse()
    with pytest.raises((Full, StoreUnavailable)):
        _fill(log)
    log.crash()
    log.mend()
    assert log.open(4)[1] is None


def _fill(log: DiskLog) -> None:
    for height in range(5, 20):
        log.append((_vote(height),))


@pytest.mark.slow
def test_runs_go_on_with_every_damage() -> None:
    seen = dict.fromkeys(DAMAGES, 0)
    for plan in map(draw, range(700)):
        if plan.damaged is None or plan.has_money:
            continue
        outcome = World(plan).play()
        assert (outcome.violations, outcome.heal_ms is None) == ([], False)
        seen[plan.damage] += 1
    assert min(seen.values()) >= 2
