"""The course of agreement, read off the states of a replica."""

from prsm.consensus.pbft.state import Instance
from prsm.consensus.pbft.transitions import Phase
from prsm.node.chain.rounds import Passed, Rounds, ViewLost
from prsm.protocol.schedule import Schedule


def instance(height: int, view: int, phase: Phase) -> Instance:
    found = Instance(height, Schedule(bytes((0, 1, 2, 3)), 0), own=None, signer=None)
    found.view, found.phase = view, phase
    return found


def follow(*states: tuple[int, int, Phase, int]) -> tuple[list[Passed], list[ViewLost]]:
    rounds, passed, lost = Rounds(), list[Passed](), list[ViewLost]()
    rounds.on_phase.append(passed.append)
    rounds.on_view_lost.append(lost.append)
    for height, view, phase, now_ms in states:
        rounds.look(instance(height, view, phase), now_ms)
    return passed, lost


def test_each_phase_says_how_long_it_took() -> None:
    passed, lost = follow(
        (7, 0, Phase.WAITING, 100),
        (7, 0, Phase.WAITING, 120),
        (7, 0, Phase.PREPARING, 130),
        (7, 0, Phase.COMMITTING, 135),
        (7, 0, Phase.EXECUTING, 150),
        (8, 0, Phase.WAITING, 151),
    )
    assert [(one.phase, one.took_ms) for one in passed] == [
        (Phase.WAITING, 30),
        (Phase.PREPARING, 5),
        (Phase.COMMITTING, 15),
        (Phase.EXECUTING, 1),
    ]
    assert {(one.height, one.view, one.proposer) for one in passed} == {(7, 0, 0)}
    assert passed[-1].entered is Phase.WAITING
    assert lost == []


def test_a_lost_view_says_what_was_missing() -> None:
    waited, changing = Phase.WAITING, Phase.CHANGING
    _, silent = follow((7, 0, waited, 0), (7, 0, changing, 400), (7, 1, waited, 450))
    assert silent == [ViewLost(7, 0, 0, "silent")]
    _, stalled = follow(
        *((7, 1, waited, 0), (7, 1, Phase.PREPARING, 10)),
        *((7, 1, changing, 400), (7, 2, waited, 450)),
    )
    assert stalled == [ViewLost(7, 1, 1, "stalled")]


def test_a_refused_proposal_is_told_apart() -> None:
    rounds, lost = Rounds(), list[ViewLost]()
    rounds.on_view_lost.append(lost.append)
    refused = instance(7, 0, Phase.CHANGING)
    refused.refused_view = 0
    rounds.look(refused, 0)
    rounds.look(instance(7, 1, Phase.WAITING), 10)
    assert [one.reason for one in lost] == ["refused"]
