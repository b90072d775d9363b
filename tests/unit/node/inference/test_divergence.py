"""The first place where two runs part, and what it says of whom."""

import pytest

from prsm.node.inference.divergence import Boundary, Divergence, Fault, first_divergence
from prsm.node.inference.judging import judge
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.transactions.audits import Finding

ROOTS = [bytes([number]) * 32 for number in range(8)]
OTHER = b"?" * 32


def run(*, stages: int = 3, wrong: int | None = None) -> list[Boundary]:
    """A chain of stages; from the wrong one on nothing is as it was."""
    found = []
    before = ROOTS[0]
    for stage in range(stages):
        spoilt = wrong is not None and stage >= wrong
        after = bytes([stage]) + OTHER[1:] if spoilt else ROOTS[stage + 1]
        found.append(Boundary(before, ROOTS[7], after))
        before = after
    return found


def test_equal_runs_do_not_part() -> None:
    assert first_divergence(run(), run()) is None
    assert first_divergence(run(), run(stages=2)) is None
    assert first_divergence([], []) is None


@pytest.mark.parametrize("stage", range(3))
def test_the_first_stage_that_computed_otherwise_is_named(stage: int) -> None:
    """Later stages differ too: they got other inputs, and are not to blame."""
    found = first_divergence(run(), run(wrong=stage))
    assert found == Divergence(stage, Fault.COMPUTED)


def test_other_inputs_are_no_fault_of_the_stage() -> None:
    fed, sided = run(), run()
    fed[1] = Boundary(OTHER, ROOTS[7], OTHER)
    sided[1] = Boundary(ROOTS[1], OTHER, OTHER)
    assert first_divergence(run(), fed) == Divergence(1, Fault.FED)
    assert first_divergence(run(), sided) == Divergence(1, Fault.SIDE)


@pytest.mark.parametrize(
    ("output", "is_same_class", "gap_ppb", "finding"),
    [
        (ROOTS[1], True, 0, Finding.EQUAL),
        (ROOTS[1], False, TOLERANCE_PPB + 1, Finding.EQUAL),  # equal bits are equal in any class
        (OTHER, True, 0, Finding.DIFFERENT),  # in a class bits are promised
        (OTHER, False, TOLERANCE_PPB, Finding.CLOSE),
        (OTHER, False, TOLERANCE_PPB + 1, Finding.DIFFERENT),
    ],
)
def test_a_judgement(output: bytes, is_same_class: bool, gap_ppb: int, finding: Finding) -> None:
    ours, theirs = Boundary(ROOTS[0], ROOTS[7], ROOTS[1]), Boundary(ROOTS[0], ROOTS[7], output)
    assert judge(ours, theirs, is_same_class=is_same_class, gap_ppb=gap_ppb) is finding


def test_tensors_of_other_inputs_are_never_close() -> None:
    ours = Boundary(ROOTS[0], ROOTS[7], ROOTS[1])
    for theirs in (Boundary(OTHER, ROOTS[7], ROOTS[1]), Boundary(ROOTS[0], OTHER, ROOTS[1])):
        assert judge(ours, theirs, is_same_class=False, gap_ppb=0) is Finding.DIFFERENT
