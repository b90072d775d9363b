"""What the io table of a generating shard says: the carried tensor, the cache, what is made up.

A shard generates when it has inputs `past_*` and outputs `present_*` in pairs. Beside them it takes
one tensor from outside, the tokens or the tensor of the cut; places and mask follow from the
position alone, so a worker makes them itself. Knows names and shapes. Must not know arrays.
Source: docs/spec/work.md, "Generation".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.errors import Unsupported
from prsm.protocol.ids import U32, UInt
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.tensors import ITEM_BYTES, Dtype

TOKEN_NAMES: Final = ("ids", "input_ids")
LOGITS: Final = "logits"
PLACES: Final = "position_ids"
MASK: Final = "attention_mask"
# Of the exporters in use: ours and GPT exports (`past_k0`), and those of transformers.
_PRESENT: Final = (("past_key_values", "present"), ("past", "present"))
THOUSAND: Final = 1000
STEPS_MAX: Final = 2048  # of one message; a replay of more travels in several
StepSizes = Annotated[
    tuple[Annotated[int, msgspec.Meta(ge=1, le=2**20)], ...],
    msgspec.Meta(min_length=1, max_length=STEPS_MAX),
]


class Sampling(Record, frozen=True):
    """How a token is chosen from logits; thousandths, since no float is signed or hashed.

    Attributes:
        temperature: thousandths; 0 takes the most likely token, ties go to the lowest id.
        top_k: only so many of the most likely tokens, 0 for all.
        top_p: thousandths; only the most likely tokens that together hold so much probability.
        seed: of the draws; the draw of a position depends on nothing but seed and position.
    """

    temperature: Annotated[int, msgspec.Meta(ge=0, le=100 * THOUSAND)]
    top_k: U32
    top_p: Annotated[int, msgspec.Meta(ge=1, le=THOUSAND)]
    seed: UInt


GREEDY: Final = Sampling(temperature=0, top_k=0, top_p=THOUSAND, seed=0)


@dataclass(frozen=True, slots=True)
class Cached:
    """One tensor of the cache: `past` goes in, `present` comes out, longer along `axis`."""

    past: TensorSpec
    present: str
    axis: int

    @property
    def bytes_per_position(self) -> int:
        """Bytes one position takes in it."""
        sizes = [size for size in self.past.shape if isinstance(size, int)]
        return prod(sizes) * ITEM_BYTES[self.past.dtype]


@dataclass(frozen=True, slots=True)
class KvShape:
    """A generating shard.

    Attributes:
        carried: the tensor from outside: tokens for the first stage, else that of the cut.
        places: does it take the positions of the tokens?
        mask: does it take a mask over all positions?
        cache: what stays at the worker; a stage that has no attention in it keeps nothing.
        made: the tensor that leaves: that of the cut, or logits.
    """

    carried: TensorSpec
    places: bool
    mask: bool
    cache: tuple[Cached, ...]
    made: TensorSpec

    @property
    def is_first(self) -> bool:
        """Does it take tokens?"""
        return self.carried.name in TOKEN_NAMES

    @property
    def is_last(self) -> bool:
        """Does it choose tokens?"""
        return self.made.name == LOGITS

    @property
    def bytes_per_position(self) -> int:
        """Bytes of cache one position takes."""
        return sum(part.bytes_per_position for part in self.cache)

    @property
    def positions_per_step(self) -> int:
        """Most positions of one step: what goes in and comes out fits one chunk of the wire."""
        widest = max(row_bytes(self.carried), 8 if self.is_last else row_bytes(self.made))
        return max(1, TENSOR_CHUNK_BYTES_MAX // widest)


def kv_shape(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> KvShape:
    """Read the io table of a whole model or of one stage.

    Raises:
        Unsupported: the model does not generate, or in a form that is not known.
    """
    made = {spec.name: spec for spec in outputs}
    cache: list[Cached] = []
    others: list[TensorSpec] = []
    for spec in inputs:
        present = _present_of(spec.name, made)
        if present is None:
            others.append(spec)
        else:
            cache.append(Cached(spec, present, _length_axis(spec)))
    names = {spec.name for spec in others}
    carried = [spec for spec in others if spec.name not in (PLACES, MASK)]
    kept = {part.present for part in cache}
    leaving = [spec for spec in outputs if spec.name not in kept]
    if len(carried) != 1 or len(leaving) != 1:
        raise _refused(
            f"beside its cache it takes {len(carried)} tensors and gives {len(leaving)}, "
            "each must be 1"
        )
    found = KvShape(carried[0], PLACES in names, MASK in names, tuple(cache), leaving[0])
    if found.is_first and found.is_last and not cache:
        raise _refused("it has no past_* inputs with present_* outputs")
    _check_ends(found)
    return found


def row_bytes(spec: TensorSpec) -> int:
    """Bytes of one position of a tensor (batch, positions, ...)."""
    sizes = [size for size in spec.shape[2:] if isinstance(size, int)]
    return prod(sizes) * ITEM_BYTES[spec.dtype]


def _check_ends(shape: KvShape) -> None:
    carried, made = shape.carried, shape.made
    if shape.is_first and (carried.dtype != Dtype.I64 or len(carried.shape) != 2):
        raise _refused(f"{carried.name!r} of shape {carried.shape} are no tokens")
    between = ([] if shape.is_first else [carried]) + ([] if shape.is_last else [made])
    for spec in between:
        if len(spec.shape) < 2 or not all(isinstance(size, int) for size in spec.shape[2:]):
            raise _refused(f"{spec.name!r} of shape {spec.shape} is no row for each position")
    if shape.is_last and (made.dtype != Dtype.F32 or len(made.shape) not in (2, 3)):
        raise _refused(f"{made.name!r} of shape {made.shape} are no logits")


def _present_of(name: str, made: dict[str, TensorSpec]) -> str | None:
    for past, present in _PRESENT:
        if name.startswith(past):
            found = present + name.removeprefix(past)
            if found in made:
                return found
    return None


def _length_axis(spec: TensorSpec) -> int:
    free = [axis for axis, size in enumerate(spec.shape) if axis and isinstance(size, str)]
    if len(free) != 1:
        raise _refused(f"{spec.name!r} of shape {spec.shape} must grow along one axis")
    return free[0]


def _refused(why: str) -> Unsupported:
    return Unsupported(
        f"this model does not generate: {why}",
        hint="use a decoder with its cache as inputs past_* and outputs present_*",
    )
