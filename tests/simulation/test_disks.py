"""Harmed disks of a run: what is found at the next start, and that a refusing disk is no end."""

from dataclasses import replace

import pytest

from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.records import LowMark, Voted, pack
from prsm.protocol.signing import Kind
from prsm.storage.errors import Full, StoreUnavailable
from prsm.testnet.sim.log import LOST, DiskLog, Found
from prsm.testnet.sim.plan import DAMAGES, LEDGER, LIE, Plan, draw
from prsm.testnet.sim.stage import Bench
from prsm.testnet.sim.world import World


def _vote(height: int) -> bytes:
    return pack(Voted(Kind.PREPARE, 0, height, 0, bytes(32)))


def _log(seed: int = 1) -> DiskLog:
    """A log with four votes, backed up after the first."""
    log = DiskLog(seed)
    assert log.open(0) == Found((), None, 0)
    for height in range(1, 5):
        log.append((_vote(height),))
        if height == 1:
            log.back_up()
    log.crash()
    return log


def test_log_without_harm_holds_every_vote() -> None:
    found = _log().open(4)
    assert found.records == tuple(_vote(height) for height in range(1, 5))
    assert (found.observer, found.spoken_of) == (None, 4)


@pytest.mark.parametrize("how", ["guard", "backup"])
def test_harmed_disk_makes_an_observer_that_keeps_its_files(how: str) -> None:
    log = _log()
    log.harm(how)
    harmed = log.open(4)
    assert harmed.observer is not None
    log.rotate(4, ())
    log.crash()
    found = log.open(4)
    assert found.observer is not None
    assert found.records == harmed.records
    log.renew(9, (_vote(10),))
    log.crash()
    assert log.open(9) == Found((pack(LowMark(9, None)), _vote(10)), None, 10)


def test_flipped_bit_costs_no_vote() -> None:
    """Also of the last record, and where the guard trails after a power cut."""
    for seed in range(80):
        log = _log(seed)
        log.harm("flip")
        found = log.open(4)
        assert found.observer is not None or len(found.records) == 4


def test_wiped_disk_is_found_empty() -> None:
    log = _log()
    log.harm("wipe")
    assert log.open(0) == Found((), None, 0)


def test_lost_ledger_makes_an_observer_until_the_next_start() -> None:
    """Log and guard are whole: nothing that was signed is forgotten."""
    log = _log()
    log.harm(LEDGER)
    found = log.open(0, "the ledger was damaged")
    assert (found.observer, len(found.records)) == ("the ledger was damaged", 4)
    log.crash()
    assert log.open(0).observer is None


def test_log_that_is_forbidden_stays_so_unless_the_power_goes_first() -> None:
    """Cut off in the middle it is forbidden or as it was; done, it is forbidden for certain."""
    seen = set()
    for seed in range(60):
        log = _log(seed)
        log.open(4)
        try:
            log.forbid("told")
        except StoreUnavailable:
            assert not log.is_silent
        else:
            assert log.is_silent
        log.crash()
        found = log.open(4)
        assert found.observer is not None or not log.is_silent
        seen.add((log.is_silent, found.observer is None))
    assert seen == {(True, False), (False, False), (False, True)}


def test_node_that_was_told_to_sign_nothing_is_held_to_it() -> None:
    world = World(next(plan for plan in map(draw, range(200)) if plan.on_disk and not plan.liars))
    log = world.nodes[0].log
    assert isinstance(log, DiskLog)
    log.is_silent = True
    assert "told of a vote it forgot, and signs again" in world.play().violations[0]


def test_node_that_lost_its_ledger_alone_observes_for_that_alone() -> None:
    plan = replace(next(p for p in map(draw, range(400)) if p.damaged is not None), damage=LEDGER)
    checker = World(plan).checker
    assert plan.damaged is not None
    checker.observed(plan.damaged, LOST)
    assert checker.violations == []
    checker.observed(plan.damaged, "a certificate has my COMMIT")
    assert "became observer: a certificate" in checker.violations[0]


def test_wiped_node_is_held_to_its_words_again_once_it_began_afresh() -> None:
    """Its files then speak of all it says; what it had said before lies below."""
    bench = Bench()
    vote = open_message(bench.sign(Kind.PREPARE, 0, bytes(32)))
    world = World(next(plan for plan in map(draw, range(400)) if not plan.liars))
    place = world.roster.node_of(0, 0)
    assert place is not None
    world.checker.wiped.add(place)
    world.checker.sent(place, vote)
    assert world.checker.violations == []
    world.checker.sent(place, vote, is_renewed=True)
    assert "before its record was durable" in world.checker.violations[0]


def test_log_is_renewed_only_on_a_disk_that_keeps_its_word() -> None:
    for is_lying in (False, True):
        log = _log()
        log.mend()
        log.harm("guard")
        assert log.open(4).observer is not None
        if is_lying:
            log.lie()
        log.renew(9, ())
        assert log.is_renewed is not is_lying
        log.harm("wipe")
        assert not log.is_renewed


def test_liar_goes_on_unless_its_log_takes_no_votes() -> None:
    world = World(next(p for p in map(draw, range(400)) if p.liars and p.on_disk))
    liar = world.nodes[world.plan.liars[0]]
    honest = next(node for node in world.nodes if world.checker.is_honest(node.index))
    for node in (liar, honest):
        node.boot()
        assert node.state is not None
        node.state.observer = "shown"
    assert world.goes_on(liar)
    assert not world.goes_on(honest)
    assert liar.state is not None
    assert liar.state.observer is None
    assert isinstance(liar.log, DiskLog)
    liar.log.mend()
    liar.log.forbid("its state came from peers")
    liar.state.observer = "shown"
    assert not world.goes_on(liar)
    assert liar.state.observer == "shown"


def test_refused_write_is_an_error_once() -> None:
    log = _log()
    log.open(4)
    log.refuse()
    with pytest.raises((Full, StoreUnavailable)):
        _fill(log)
    log.crash()
    log.mend()
    assert log.open(4).observer is None


def _fill(log: DiskLog) -> None:
    for height in range(5, 20):
        log.append((_vote(height),))


@pytest.mark.slow
def test_runs_go_on_with_every_damage() -> None:
    seen = dict.fromkeys((*DAMAGES, LEDGER, LIE), 0)
    for plan in map(draw, range(1_500)):
        if plan.damaged is None or plan.has_money:
            continue
        outcome = World(plan).play()
        assert (outcome.violations, outcome.heal_ms is None) == ([], False)
        seen[plan.damage] += 1
    assert min(seen.values()) >= 2


def test_lying_disk_loses_what_it_said_was_durable() -> None:
    """A power cut shows it: the guard, or peers that hold the vote, or nobody."""
    lost = noticed = 0
    for seed in range(40):
        log = DiskLog(seed)
        log.open(0)
        log.append((_vote(1),))
        log.lie()
        for height in range(2, 6):
            log.append((_vote(height),))
        log.harm("lie")
        found = log.open(0)
        assert found.observer is not None or found.records[:1] == (_vote(1),)
        lost += len(found.records) < 5
        noticed += found.observer is not None
    assert 0 < noticed <= lost


@pytest.mark.slow
def test_observers_of_runs_sign_again_at_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A harmed disk makes an observer; where epochs end soon, it does not stay one."""
    began: list[int] = []
    renew = DiskLog.renew

    def note(log: DiskLog, low: int, records: tuple[bytes, ...]) -> None:
        began.append(low)
        renew(log, low, records)

    monkeypatch.setattr(DiskLog, "renew", note)
    ended = 0
    for plan in filter(_has_short_epochs, map(draw, range(4_000))):
        world, before = World(plan), len(began)
        assert world.play().violations == []
        assert plan.damaged is not None
        state = world.nodes[plan.damaged].state
        assert state is not None
        ended += len(began) > before and state.observer is None
    assert ended >= 2


def _has_short_epochs(plan: Plan) -> bool:
    is_found = plan.damage in ("guard", "backup") and plan.damaged is not None
    return is_found and 0 < plan.epoch_heights < 3


def test_segment_that_power_cuts_off_leaves_the_old_one_or_the_new_one() -> None:
    """A vote of the height at work stands in both; only what the ledger has may be gone."""
    seen = set()
    for seed in range(40):
        log = _log(seed)
        log.open(4)
        log.rotate_cut(3, (_vote(4),))
        log.crash()
        found = log.open(4)
        assert found.observer is None, seed
        assert _vote(4) in found.records, seed
        seen.add(len(found.records))
    assert seen == {1, 4}
