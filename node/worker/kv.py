"""Caches of generating sessions inside one sealed child, and the choice of the next token.

State is kept by the number its daemon gave a session, and never leaves this process. Each step says
where it starts; a session that is elsewhere refuses. Must not know peers, pipes or files.

Invariants: a step that fails leaves the cache as it was; the bytes of a cache never pass the quota
its daemon named.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from prsm.node.worker.pipe import NUMPY, Array
from prsm.node.worker.session import check_finite
from prsm.protocol.codec import encode
from prsm.protocol.generating import MASK, PLACES, THOUSAND, Cached, KvShape, Sampling
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.messages.steps import PositionMismatch, QuotaFull, Step

Compute = Callable[[Mapping[str, Array]], dict[str, Array]]
_DRAW_BITS: Final = 53  # of a float64's mantissa


@dataclass(slots=True)
class _Cache:
    position: int = 0
    past: dict[str, Array] = field(default_factory=dict)


class Caches:
    """The sessions of one shard."""

    def __init__(self, shape: KvShape) -> None:
        self._shape = shape
        self._held: dict[int, _Cache] = {}

    def step(self, call: Step, given: Array, compute: Compute) -> tuple[str, Array]:
        """Run the steps of one call, one after the other.

        Args:
            call: the session, where it starts, and how many positions each step takes.
            given: tokens int64 (1, positions), or the cut tensor (1, positions, ...).
            compute: runs the graph.

        Returns:
            Name and array of what leaves: the cut tensor (1, positions, ...), or of the last stage
            the chosen tokens, int64 (steps,).

        Raises:
            PositionMismatch: the session holds another number of positions.
            QuotaFull: the cache would pass `call.quota_bytes`; nothing was computed.
            InputMismatch: the tensor is not of this shard, or an operator refuses a value.
        """
        shape = self._shape
        cache = self._held.get(call.session) or _Cache()
        if call.start_position != cache.position:
            raise PositionMismatch(
                f"the step starts at position {call.start_position}, this session holds "
                f"{cache.position}"
            )
        self._check(call, given)
        made = []
        offset = 0
        for size in call.sizes:
            outputs = compute(self._feeds(cache, given[:, offset : offset + size]))
            offset += size
            cache = _Cache(
                cache.position + size,
                {part.past.name: outputs[part.present] for part in shape.cache},
            )
            check_finite({shape.made.name: outputs[shape.made.name]})
            made.append(self._made(outputs[shape.made.name], cache.position, call.sampling))
        self._held[call.session] = cache
        return shape.made.name, np.concatenate(made, axis=0 if shape.is_last else 1)

    def position(self, session: int) -> int:
        """Positions a session holds; 0 of one that is not here."""
        cache = self._held.get(session)
        return cache.position if cache is not None else 0

    def drop(self, session: int) -> None:
        """Forget a session."""
        self._held.pop(session, None)

    def _check(self, call: Step, given: Array) -> None:
        spec = self._shape.carried
        count = sum(call.sizes)
        if given.dtype != NUMPY[spec.dtype] or given.shape[:2] != (1, count):
            raise InputMismatch(
                f"{spec.name!r} is {given.dtype} {list(given.shape)}, the steps take "
                f"{spec.dtype.name} [1, {count}, ...]"
            )
        check_finite({spec.name: given})
        needed = (call.start_position + count) * self._shape.bytes_per_position
        if needed > call.quota_bytes:
            raise QuotaFull(
                f"{call.start_position + count} positions take {needed} bytes of cache, at most "
                f"{call.quota_bytes}"
            )

    def _feeds(self, cache: _Cache, carried: Array) -> dict[str, Array]:
        shape, start = self._shape, cache.position
        end = start + carried.shape[1]
        feeds = {shape.carried.name: carried}
        if shape.places:
            feeds[PLACES] = np.arange(start, end, dtype=np.int64)[None, :]
        if shape.mask:
            feeds[MASK] = np.ones((1, end), dtype=np.int64)
        for part in shape.cache:
            feeds[part.past.name] = cache.past[part.past.name] if cache.past else _empty(part)
        return feeds

    def _made(self, array: Array, position: int, sampling: Sampling | None) -> Array:
        if not self._shape.is_last:
            return array
        if sampling is None:
            raise InputMismatch("the last stage needs to be told how a token is chosen")
        logits = array[0, -1] if array.ndim == 3 else array[0]
        return np.array([choose(logits, sampling, position)], dtype=np.int64)


def choose(logits: Array, sampling: Sampling, position: int) -> int:
    """Choose a token; the same on every machine that has the same logits.

    Args:
        logits: float32 (vocabulary,).
        sampling: how.
        position: of the token that is chosen.
    """
    if not sampling.temperature or sampling.top_k == 1:
        return int(np.argmax(logits))  # the first, so the lowest id, of equal ones
    scaled = logits.astype(np.float64) * (THOUSAND / sampling.temperature)
    order = np.argsort(-scaled, kind="stable")  # of equal ones the lowest id first
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    sums = np.cumsum(weights)
    if sampling.top_p < THOUSAND:
        enough = int(np.searchsorted(sums, sums[-1] * sampling.top_p / THOUSAND))
        sums = sums[: enough + 1]
    place = int(np.searchsorted(sums, draw(sampling.seed, position) * sums[-1], side="right"))
    return int(order[min(place, len(sums) - 1)])


def draw(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on seed and position alone, so a replay draws the same."""
    digest = hashlib.sha256(b"prsm/draw/1" + encode((seed, position))).digest()
    return float((int.from_bytes(digest[:8], "big") >> (64 - _DRAW_BITS)) / 2**_DRAW_BITS)


def _empty(part: Cached) -> Array:
    """The cache of no position: batch 1, length 0."""
    sizes = [size if isinstance(size, int) else 1 for size in part.past.shape]
    sizes[part.axis] = 0
    return np.zeros(sizes, dtype=NUMPY[part.past.dtype])
