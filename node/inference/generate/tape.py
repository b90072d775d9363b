"""What went into each batch of a generating unit and what came out, as a check needs it.

Pure; worker and requester each run one beside their book. A batch is its carried tensor, the
statement its side root is over (where it starts, its steps, how tokens are chosen), and what was
made of it. Must not know where it is kept. Source: docs/spec/work.md, "Generation".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.generating import Sampling, StepSizes
from prsm.protocol.ids import U32
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

STEPS: Final = "steps"  # name of the statement as a tensor


@dataclass(frozen=True, slots=True)
class Taped:
    """One batch: both sides of it."""

    inputs: tuple[Tensor, Tensor]  # carried, statement
    outputs: tuple[Tensor]


class Statement(Record, frozen=True):
    """What the side root of a batch is over, canonical."""

    start: U32
    sizes: StepSizes
    sampling: bytes | None

    def chosen(self) -> Sampling | None:
        """How tokens are chosen; None before the last stage.

        Raises:
            WireError: no sampling.
        """
        if self.sampling is None:
            return None
        return decode(self.sampling, Sampling, size_max=FRAME_HEAD_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class _Step:
    start: int
    size: int
    carried: bytes
    made: bytes


class Tape:
    """The steps since the last batch that was taken off.

    Args:
        sampling: of the last stage, None before it.
    """

    def __init__(self, sampling: Sampling | None) -> None:
        self._sampling = sampling
        self._steps: list[_Step] = []
        self._heads: tuple[TensorHead, TensorHead] | None = None

    def add(self, start: int, sizes: Sequence[int], carried: Tensor, made: Tensor) -> None:
        """Note steps that were done.

        Args:
            start: position of the first.
            sizes: of each.
            carried: (1, positions, ...), what went in.
            made: (1, positions, ...), or of the last stage tokens (steps,).
        """
        self._heads = (carried.head, made.head)
        is_last = self._sampling is not None
        wide = len(carried.data) // sum(sizes)
        out = len(made.data) // (len(sizes) if is_last else sum(sizes))
        first = 0
        for index, size in enumerate(sizes):
            begin, count = (index, 1) if is_last else (first, size)
            self._steps.append(
                _Step(
                    start=start + first,
                    size=size,
                    carried=carried.data[first * wide : (first + size) * wide],
                    made=made.data[begin * out : (begin + count) * out],
                )
            )
            first += size

    def take(self, first: int, rows: int) -> Taped:
        """One batch, and forget it with all before it.

        Args:
            first: its first position.
            rows: its positions.
        """
        assert self._heads is not None
        own = [step for step in self._steps if first <= step.start < first + rows]
        assert sum(step.size for step in own) == rows, "a batch that is not all here"
        self._steps = [step for step in self._steps if step.start >= first + rows]
        carried, made = self._heads
        sampling = None if self._sampling is None else encode(self._sampling)
        said = encode(Statement(first, tuple(step.size for step in own), sampling))
        shape = (len(own),) if self._sampling is not None else (1, rows, *made.shape[2:])
        return Taped(
            inputs=(
                Tensor(
                    TensorHead(carried.name, carried.dtype, (1, rows, *carried.shape[2:])),
                    b"".join(step.carried for step in own),
                ),
                Tensor(TensorHead(STEPS, Dtype.U8, (len(said),)), said),
            ),
            outputs=(
                Tensor(
                    TensorHead(made.name, made.dtype, shape), b"".join(step.made for step in own)
                ),
            ),
        )


def read_statement(tensor: Tensor) -> Statement:
    """The statement out of what was kept.

    Raises:
        WireError: not canonical.
    """
    if tensor.head.name != STEPS:
        raise WireError(f"{tensor.head.name} is no statement of steps")
    return decode(tensor.data, Statement, size_max=FRAME_HEAD_BYTES_MAX)
