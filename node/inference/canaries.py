"""Rows with known answers, hidden among the rows of a job that one worker does alone.

A requester that runs no models cannot compute a batch again; it can send one whose answer it knows,
since several workers agreed on it before. Each is used once. A worker that was among those who
agreed may remember the rows: whoever is given the canary does not know who they were, yet it is a
check by chance, not a proof. Must not know workers. Source: docs/spec/work.md, "Audits".
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prsm.node.inference.batches import Batch

KEPT_MAX = 32  # of all models
BYTES_MAX = 1024 * 1024  # of one; larger batches are not kept


@dataclass(frozen=True, slots=True)
class Canary:
    """A micro-batch and the answer to it, of one determinism class of the last stage."""

    model: bytes
    inputs: Batch
    outputs: Batch
    class_id: bytes


@dataclass(frozen=True, slots=True)
class Salted:
    """The micro-batches of a job with at most one canary among them.

    Attributes:
        batches: graph inputs as they are sent.
        place: of the canary in them, None without one.
        canary: what is known.
    """

    batches: tuple[Batch, ...]
    place: int | None = None
    canary: Canary | None = None

    def own(self, outputs: Sequence[Batch]) -> tuple[Batch, ...]:
        """The outputs of the job's own batches."""
        return tuple(batch for index, batch in enumerate(outputs) if index != self.place)

    def is_caught(self, outputs: Sequence[Batch | None], class_id: bytes) -> bool:
        """Did a worker of the same class answer the canary otherwise than is known?"""
        if self.place is None or self.canary is None or class_id != self.canary.class_id:
            return False
        return outputs[self.place] != self.canary.outputs


class Canaries:
    """Known answers of earlier jobs of this node.

    Args:
        percent: of jobs that get a canary, while there is one for their model.
        dice: a number below the one given; secret.
    """

    def __init__(self, *, percent: int, dice: Callable[[int], int] = secrets.randbelow) -> None:
        assert 0 <= percent <= 100
        self._percent, self._dice = percent, dice
        self._known: deque[Canary] = deque(maxlen=KEPT_MAX)

    def learn(self, canary: Canary) -> None:
        """Keep an answer that several workers gave; the oldest one goes."""
        size = sum(len(t.data) for side in (canary.inputs, canary.outputs) for t in side)
        if size <= BYTES_MAX and canary not in self._known:
            self._known.append(canary)

    def salt(self, model: bytes, batches: Sequence[Batch]) -> Salted:
        """Put a canary into a random place among the batches of a job, by chance."""
        known = [canary for canary in self._known if canary.model == model]
        if not known or self._dice(100) >= self._percent:
            return Salted(tuple(batches))
        canary = known[self._dice(len(known))]
        self._known.remove(canary)
        place = self._dice(len(batches) + 1)
        return Salted((*batches[:place], canary.inputs, *batches[place:]), place, canary)
