"""Answers that were given before, by model, inputs and parameters; the least used goes first.

Bounded by bytes. Must not know how an answer is made. An answer can be taken back: when a worker
is found wrong, everything that rests on its word alone is forgotten.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.protocol.codec import encode
from prsm.protocol.limits import MIB
from prsm.protocol.tensors import Tensor

BYTES_MAX: Final = 64 * MIB
ENTRY_BYTES: Final = 512  # keys and heads beside the tensors


def answer_key(model: bytes, tensors: Sequence[Tensor], *, opinions: int) -> bytes:
    """Name a micro-batch: the model's CID, the inputs byte for byte, how many must agree.

    Rows of a micro-batch and its padded length are in the shapes, so the answer has the same bits.
    """
    heads = tuple(tensor.head for tensor in tensors)
    digest = hashlib.sha256(b"prsm/answer/1" + encode((model, opinions, heads)))
    for tensor in tensors:
        digest.update(tensor.data)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """Outputs and who gave them."""

    outputs: tuple[Tensor, ...]
    workers: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return ENTRY_BYTES + sum(len(tensor.data) for tensor in self.outputs)


class Answers:
    """Keeps answers within a bound of bytes."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()
        self.size = self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def has(self, key: bytes) -> bool:
        """Is an answer kept? Counts neither as a hit nor as a use."""
        return key in self._kept

    def get(self, key: bytes) -> KeptAnswer | None:
        """The answer given before, which counts as used now."""
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, answer: KeptAnswer) -> None:
        """Keep an answer; one larger than an eighth of the bound is not kept."""
        if answer.size > self._bytes_max // 8:
            return
        self._drop(key)
        self._kept[key] = answer
        self.size += answer.size
        while self.size > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def forget_worker(self, worker: bytes) -> int:
        """Drop what rests on the word of this worker; how many those were."""
        found = [key for key, kept in self._kept.items() if worker in kept.workers]
        for key in found:
            self._drop(key)
        return len(found)

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.size -= found.size
