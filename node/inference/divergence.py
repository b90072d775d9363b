"""Which shard was wrong: the first place where two runs of one micro-batch went apart.

Pure. Every stage's receipt names the roots at its two boundaries, so two runs are compared without
a tensor, and the first stage that made another thing of the same inputs is named in one step.
Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Boundary:
    """What went into one stage and what came out of it, by roots."""

    input_root: bytes
    side_root: bytes
    output_root: bytes


class Fault(Enum):
    """What is wrong where two runs part."""

    COMPUTED = "computed"  # equal inputs, other outputs: one of the two workers is wrong
    FED = "fed"  # equal outputs before it, other inputs: who passes them on is wrong
    SIDE = "side"  # another graph input beside the cut tensor: likewise


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first stage at which two runs of a batch differ."""

    stage: int
    fault: Fault


def first_divergence(ours: Sequence[Boundary], theirs: Sequence[Boundary]) -> Divergence | None:
    """Compare two runs of the same micro-batch, stage by stage.

    Args:
        ours: boundaries of stages 0, 1, ….
        theirs: of the same stages; where one run is shorter, only its stages are compared.

    Returns:
        The first difference, or None.
    """
    for stage, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a.input_root != b.input_root:
            return Divergence(stage, Fault.FED)
        if a.side_root != b.side_root:
            return Divergence(stage, Fault.SIDE)
        if a.output_root != b.output_root:
            return Divergence(stage, Fault.COMPUTED)
    return None
