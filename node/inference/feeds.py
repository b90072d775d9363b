"""The requester's word for what it pushed, as both ends compute it from the same tensors.

Pure. Must not know who pushes what to whom. Source: docs/spec/work.md, "Receipt".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.node.inference.verify import input_root, side_root
from prsm.protocol.ids import Signature
from prsm.protocol.receipts import Feed
from prsm.protocol.tensors import Tensor

NO_FEED = Signature(bytes(64))


@dataclass(frozen=True, slots=True)
class Target:
    """Which batch of which unit tensors are for, and of which stage that unit is."""

    job: bytes
    unit: int
    batch: int
    stage: int


def feed_over(target: Target, tensors: Sequence[Tensor], signature: Signature = NO_FEED) -> Feed:
    """The statement on these tensors, with a signature that may be right or not.

    Args:
        target: what they are for.
        tensors: in the order of the shard's io table, the cut tensor first.
        signature: as it came.
    """
    return Feed(
        job=target.job,
        unit=target.unit,
        batch=target.batch,
        input_root=input_root(tensors, stage=target.stage),
        side_root=side_root(tensors, stage=target.stage),
        signature=signature,
    )
