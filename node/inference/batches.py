"""Rows in, micro-batches out, and back: the batch plan of a job and the order of its rows.

Rule R9: rows of a micro-batch, their order and padded length are part of the job. Tensors are
bytes here; a row is a slice of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.node.inference.transfer import check_heads
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.tensors import Tensor, TensorHead

Batch = tuple[Tensor, ...]


class RowsDiffer(LocalError):
    """Rows of different shapes make no one tensor."""

    reason = "rows_differ"


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Micro-batches of a job in order; `rows[i]` names the rows of batch i as they were given.

    A batch without rows of the job went along for a reason of the requester's own.
    """

    rows: tuple[tuple[int, ...], ...]
    batches: tuple[Batch, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each micro-batch."""
        return tuple(
            len(rows) or batch[0].head.shape[0]
            for rows, batch in zip(self.rows, self.batches, strict=True)
        )


def split_rows(tensors: Sequence[Tensor], rows_per_batch: int) -> BatchPlan:
    """Cut whole arrays into micro-batches along their first axis, in order.

    Raises:
        InputMismatch: no rows, or tensors with different numbers of them.
    """
    counts = {tensor.head.name: tensor.head.shape[0] for tensor in tensors if tensor.head.shape}
    total = min(counts.values(), default=0)
    if len(counts) != len(tensors) or set(counts.values()) != {total} or total == 0:
        raise InputMismatch(f"every input needs the same number of rows, at least 1: {counts}")
    rows = tuple(
        tuple(range(start, min(start + rows_per_batch, total)))
        for start in range(0, total, rows_per_batch)
    )
    batches = tuple(
        tuple(_slice(tensor, part[0], part[-1] + 1) for tensor in tensors) for part in rows
    )
    return BatchPlan(rows, batches)


def check_inputs(plan: BatchPlan, specs: Sequence[TensorSpec]) -> BatchPlan:
    """Compare the inputs of a job with the io table of the whole graph, and order them by it.

    Raises:
        InputMismatch: a name, dtype or shape that differs, or a tensor of the wrong length.
    """
    ordered = []
    for batch in plan.batches:
        by_name = {tensor.head.name: tensor for tensor in batch}
        wanted = [spec.name for spec in specs]
        if sorted(by_name) != sorted(wanted):
            raise InputMismatch(f"inputs are {sorted(by_name)}, the model takes {wanted}")
        tensors = tuple(by_name[name] for name in wanted)
        check_heads([tensor.head for tensor in tensors], specs, axes={})
        for tensor in tensors:
            if len(tensor.data) != tensor.head.nbytes:
                raise InputMismatch(
                    f"{tensor.head.name} has {len(tensor.data)} bytes, its shape "
                    f"{list(tensor.head.shape)} needs {tensor.head.nbytes}"
                )
        ordered.append(tensors)
    return BatchPlan(plan.rows, tuple(ordered))


def restore(plan: BatchPlan, outputs: Sequence[Batch]) -> Batch:
    """Put the outputs of all micro-batches together, rows in the order they were given.

    Raises:
        RowsDiffer: an output whose rows have different shapes in different batches.
    """
    return tuple(_join(plan, [batch[i] for batch in outputs]) for i in range(len(outputs[0])))


def _join(plan: BatchPlan, parts: Sequence[Tensor]) -> Tensor:
    head = parts[0].head
    total = sum(len(rows) for rows in plan.rows)
    found: list[bytes] = [b""] * total
    for rows, part in zip(plan.rows, parts, strict=True):
        if not rows:
            continue
        if part.head.shape[:1] != (len(rows),) or part.head.shape[1:] != head.shape[1:]:
            raise RowsDiffer(
                f"{head.name} has rows of shapes {list(head.shape[1:])} and "
                f"{list(part.head.shape[1:])}",
                hint="read the result by micro-batch",
            )
        size = len(part.data) // len(rows)
        for place, row in enumerate(rows):
            found[row] = part.data[place * size : (place + 1) * size]
    return Tensor(TensorHead(head.name, head.dtype, (total, *head.shape[1:])), b"".join(found))


def _slice(tensor: Tensor, first: int, end: int) -> Tensor:
    head = tensor.head
    size = len(tensor.data) // head.shape[0]
    shape = (end - first, *head.shape[1:])
    return Tensor(TensorHead(head.name, head.dtype, shape), tensor.data[first * size : end * size])
