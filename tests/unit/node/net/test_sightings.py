"""Who is believed about this node's reach: groups, majorities, age."""

import pytest

from prsm.node.net.sightings import AGE_MAX_MS, VOICES_MAX, Quorum, Sightings, Verdict


def test_one_group_is_not_believed_however_often_it_speaks() -> None:
    sightings = Sightings()
    for now_ms in range(5):
        sightings.saw("8.8", "1.2.3.4", now_ms=now_ms)
        sightings.dialled("8.8", reached=True, now_ms=now_ms)
    assert sightings.ip(now_ms=9) is None
    assert sightings.verdict(now_ms=9) is Verdict.UNKNOWN


def test_two_groups_that_agree_are_believed() -> None:
    sightings = Sightings()
    for group in ("8.8", "9.9"):
        sightings.saw(group, "1.2.3.4", now_ms=0)
        sightings.dialled(group, reached=False, now_ms=0)
    assert sightings.ip(now_ms=0) == "1.2.3.4"
    assert sightings.verdict(now_ms=0) is Verdict.UNREACHABLE


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ([True, True, False], Verdict.REACHABLE),
        ([True, True, False, False], Verdict.UNKNOWN),
        ([True, False, False], Verdict.UNREACHABLE),
        ([True, False], Verdict.UNKNOWN),
    ],
)
def test_majority_of_groups_decides(words: list[bool], verdict: Verdict) -> None:
    sightings = Sightings()
    for number, reached in enumerate(words):
        sightings.dialled(f"group {number}", reached=reached, now_ms=0)
    assert sightings.verdict(now_ms=0) is verdict


def test_latest_word_of_a_group_counts_and_old_ones_are_forgotten() -> None:
    sightings = Sightings()
    for reached in (False, True):
        for group in ("8.8", "9.9"):
            sightings.dialled(group, reached=reached, now_ms=10)
    assert sightings.verdict(now_ms=10) is Verdict.REACHABLE
    assert sightings.asked_ms("8.8") == 10
    assert sightings.verdict(now_ms=10 + AGE_MAX_MS) is Verdict.UNKNOWN
    assert sightings.asked_ms("8.8") is None


def test_node_that_moved_forgets_what_was_found_of_its_old_address() -> None:
    sightings = Sightings()
    for group in ("8.8", "9.9"):
        sightings.saw(group, "1.2.3.4", now_ms=0)
        sightings.dialled(group, reached=True, now_ms=0)
    for group in ("8.8", "9.9"):
        sightings.saw(group, "5.6.7.8", now_ms=1)
    assert sightings.ip(now_ms=1) == "5.6.7.8"
    assert sightings.verdict(now_ms=1) is Verdict.UNKNOWN


def test_voices_are_bounded_and_the_oldest_goes() -> None:
    quorum = Quorum()
    for number in range(VOICES_MAX + 2):
        quorum.note(f"group {number}", "x", now_ms=0)
    assert quorum.counts(now_ms=0) == {"x": VOICES_MAX}
    assert quorum.last_ms("group 1") is None
    assert quorum.last_ms("group 2") == 0
