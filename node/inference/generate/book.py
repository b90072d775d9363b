"""Steps into batches: which positions a receipt covers as one, and the roots over them.

Pure; the worker keeps one for its unit, the requester one for each stage, and both must come to the
same roots. The first batch is the prompt, each later one so many single steps. A step never spans
two batches. Source: docs/spec/work.md, "Generation".
"""

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.errors import WireError
from prsm.protocol.generating import Sampling
from prsm.protocol.ids import Digest
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.tensors import Tensor

# A worker computes at most one batch that the requester has not signed for, and a receipt has at
# most 256 of them; a hundred tokens are seven.
STEPS_PER_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class BatchRoots:
    """One batch as both sides see it."""

    index: int
    rows: int
    input_root: Digest
    side_root: Digest
    output_root: Digest


@dataclass(frozen=True, slots=True)
class _Step:
    start: int
    size: int
    inputs: tuple[Digest, ...]
    outputs: tuple[Digest, ...]


def batch_plan(prompt: int, tokens_max: int) -> tuple[int, ...]:
    """Rows of each batch of a generation: the prompt, then single steps.

    Args:
        prompt: tokens of the prompt.
        tokens_max: tokens to choose at most; the last one is fed to no stage.
    """
    left = tokens_max - 1
    size = max(STEPS_PER_BATCH, -(-left // (WORK_BATCHES_MAX - 1)))
    return (prompt, *(min(size, left - first) for first in range(0, left, size)))


class Book:
    """The steps of one unit.

    Invariant: steps follow each other without a gap from `first`, where the accounting begins.
    """

    def __init__(self, batch_rows: Sequence[int], sampling: Sampling | None) -> None:
        self._sampling = sampling
        self._bounds = [0]
        for rows in batch_rows:
            self._bounds.append(self._bounds[-1] + rows)
        self._steps: list[_Step] = []
        self._known: dict[int, BatchRoots] = {}  # complete ones never change
        self.first = 0
        self.position = 0

    @property
    def has_steps(self) -> bool:
        """Was any step noted?"""
        return bool(self._steps)

    def start_of(self, index: int) -> int:
        """First position of a batch."""
        return self._bounds[index]

    def skip(self, position: int) -> None:
        """Begin at a position whose history is part of no batch here."""
        assert not self._steps
        self.first = self.position = position

    def fed(self, sizes: Sequence[int], carried: Tensor) -> tuple[tuple[int, Digest, Digest], ...]:
        """Batches that steps would complete: index, input root, side root; nothing is noted.

        Args:
            sizes: of the steps.
            carried: tensor (1, positions, ...) of all of them.

        Raises:
            WireError: a step spans two batches, or they go beyond the last.
        """
        end = self._end_of(sizes)
        due = [i for i in self._complete(end) if self._bounds[i + 1] > self.position]
        if not due:  # nearly every token: nothing is hashed before it goes on its way
            return ()
        twin = [*self._steps, *self._made_of(sizes, leaves(carried), [()] * len(sizes))]
        return tuple((index, *self._in_roots(twin, index)) for index in due)

    def add(self, sizes: Sequence[int], carried: Tensor, made: Tensor, *, is_last: bool) -> None:
        """Note steps that were done.

        Args:
            sizes: of the steps.
            carried: what went in.
            made: the cut tensor (1, positions, ...), or of the last stage tokens (steps,).
            is_last: of the last stage?
        """
        end = self._end_of(sizes)
        out = leaves(made, is_flat=is_last)
        parts: list[tuple[Digest, ...]] = []
        for size in sizes:
            count = 1 if is_last else size
            parts.append(tuple(out[:count]))
            out = out[count:]
        self._steps += self._made_of(sizes, leaves(carried), parts)
        self.position = end

    @property
    def missing(self) -> int:
        """Positions that the batch which is begun lacks; 0 between two batches."""
        index = self._batch_of(self.position)
        is_begun = index is not None and self._bounds[index] < self.position
        return self._bounds[index + 1] - self.position if index is not None and is_begun else 0

    def done(self) -> tuple[BatchRoots, ...]:
        """The complete batches."""
        return tuple(self._roots(index) for index in self._complete(self.position))

    def rest(self) -> BatchRoots | None:
        """The batch that is begun and not complete, with the rows it has."""
        index = self._batch_of(self.position)
        if index is None or not self.first <= self._bounds[index] < self.position:
            return None
        return self._roots(index)

    def until(self, position: int) -> "Book":
        """A copy as it was at an earlier position."""
        book = copy.copy(self)
        book.position = position
        book._steps = [step for step in self._steps if step.start < position]  # noqa: SLF001 - a Book
        book._known = {}  # noqa: SLF001 - a Book
        return book

    def _end_of(self, sizes: Sequence[int]) -> int:
        """Position after steps of these sizes."""
        start = self.position
        for size in sizes:
            index = self._batch_of(start)
            if index is None or start + size > self._bounds[index + 1]:
                raise WireError(f"a step of {size} at position {start} spans batches of the job")
            start += size
        return start

    def _made_of(
        self,
        sizes: Sequence[int],
        inputs: Sequence[Digest],
        outputs: Sequence[tuple[Digest, ...]],
    ) -> list[_Step]:
        steps, start, offset = list[_Step](), self.position, 0
        for size, out in zip(sizes, outputs, strict=True):
            steps.append(_Step(start, size, tuple(inputs[offset : offset + size]), out))
            start, offset = start + size, offset + size
        return steps

    def _batch_of(self, position: int) -> int | None:
        """The batch that the next step at a position belongs to."""
        index = bisect_right(self._bounds, position) - 1
        return index if index < len(self._bounds) - 1 else None

    def _complete(self, position: int) -> range:
        """Batches that are all noted once a position is reached."""
        end = bisect_right(self._bounds, position) - 1
        return range(bisect_left(self._bounds, self.first), end)

    def _in_roots(self, steps: Sequence[_Step], index: int) -> tuple[Digest, Digest]:
        first, end = self._bounds[index], self._bounds[index + 1]
        own = [step for step in steps if first <= step.start < end]
        inputs = [leaf for step in own for leaf in step.inputs]
        sampling = None if self._sampling is None else encode(self._sampling)
        side = merkle.root([encode((first, tuple(step.size for step in own), sampling))])
        return merkle.root_of_leaves(inputs), side

    def _roots(self, index: int) -> BatchRoots:
        if index in self._known:
            return self._known[index]
        first, end = self._bounds[index], self._bounds[index + 1]
        before, side = self._in_roots(self._steps, index)
        own = [step for step in self._steps if first <= step.start < end]
        after = merkle.root_of_leaves([leaf for step in own for leaf in step.outputs])
        roots = BatchRoots(index, sum(step.size for step in own), before, side, after)
        if end <= self.position:
            self._known[index] = roots
        return roots


def leaves(tensor: Tensor, *, is_flat: bool = False) -> list[Digest]:
    """Leaf of each position of a tensor (1, positions, ...), or of each row of a flat one.

    They are the leaves of `receipts.rows_root` over the tensor without its first axis.
    """
    shape = tensor.head.shape if is_flat else tensor.head.shape[1:]
    prefix = encode((int(tensor.head.dtype), shape[1:]))
    size = len(tensor.data) // shape[0] if shape[0] else 0
    view = memoryview(tensor.data)
    return [merkle.leaf_hash(prefix + view[i * size : (i + 1) * size]) for i in range(shape[0])]
