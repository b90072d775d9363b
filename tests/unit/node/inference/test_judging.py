"""Across determinism classes: floats by distance, of integers nothing."""

import pytest
import trio

from prsm.node.inference.judging import judge_apart
from prsm.node.inference.line import Line
from prsm.protocol.errors import Unsupported
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.audits import Finding
from tests.tools.work import Adder, AdderRunner, make_manifest

LABEL, OTHER = (Tensor(TensorHead("label", Dtype.I64, (1,)), bytes([n] * 8)) for n in (1, 2))
SCORE, NEAR = (Tensor(TensorHead("score", Dtype.F32, (1,)), bytes([n] * 4)) for n in (1, 2))


async def judged(ours: list[Tensor], theirs: list[Tensor], *, gap_ppb: int) -> Finding:
    """Method: floats that differ are so far apart; whoever compares more than floats sees it."""
    runner = AdderRunner(make_manifest(), run_s=0, gap_ppb=gap_ppb)
    return await judge_apart(Line(Adder("1-0", 1, "y", runner)), ours, theirs)


async def test_floats_beside_an_integer_convict_and_the_integer_does_not() -> None:
    with trio.fail_after(1):
        far = TOLERANCE_PPB + 1
        assert await judged([SCORE, LABEL], [NEAR, LABEL], gap_ppb=TOLERANCE_PPB) is Finding.CLOSE
        assert await judged([SCORE, LABEL], [NEAR, OTHER], gap_ppb=far) is Finding.DIFFERENT
        assert await judged([SCORE, LABEL], [SCORE, LABEL], gap_ppb=far) is Finding.CLOSE
        for theirs in ([SCORE, OTHER], [SCORE]):
            with pytest.raises(Unsupported, match="inside a determinism class only"):
                await judged([SCORE, LABEL], theirs, gap_ppb=far)
