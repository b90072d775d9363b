"""Golden rows: made-up, repeatable inputs of a graph, and the file that keeps them for a shard.

The rows prove two things: that a split equals the whole, and that two workers are of one
determinism class. They need no meaning, only to pass through every operator with varied values.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx

from prsm.node.worker.pipe import NUMPY, Array, read_arrays, write_arrays
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX
from prsm.protocol.messages.pipe import Golden, InputMismatch, ModelRefused
from prsm.protocol.tensors import Dtype

# Free axes in the order they appear: the batch, then the others. The two sets have no size in
# common, so that an axis which changes between them is free and its name can be told.
# Eight rows: a probe of two rows once looked equal on different machines by luck.
SIZES: Final = (8, 16)
OTHER_SIZES: Final = (3, 11)
# For graphs that halve and double an axis, which must be a multiple of some power of two.
_EVEN: Final = (8, 32)
_OTHER_EVEN: Final = (3, 64)
_EVEN_STEP: Final = 64
Axes = dict[str, int]
_LENGTH: Final = struct.Struct(">I")
# Operators that hand indices on, and those that look them up: (index input, table input).
_HANDS_ON: Final = frozenset(("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
_WIDENS: Final = frozenset(("Cast", "DequantizeLinear", "Identity"))  # a stored table
_GATHERS: Final = {
    "Gather": ((1, 0),),
    "GatherBlockQuantized": ((1, 0),),
    "EmbedLayerNormalization": ((0, 2), (1, 4)),
}


def layouts(graph: onnx.GraphProto) -> Iterator[tuple[Axes, Axes]]:
    """Yield ways to size the free axes, twice each; the first that runs is taken.

    An exporter that names its axes is taken at its word. One that does not may still mean the
    same batch by the first axis of every input, the same length by all others, or lengths that
    can be halved a few times.
    """
    seen: list[Axes] = []
    for is_one_batch, is_one_length in ((False, False), (True, False), (True, True)):
        for step, first, other in ((1, SIZES, OTHER_SIZES), (_EVEN_STEP, _EVEN, _OTHER_EVEN)):
            rule = _Rule(step, is_one_batch=is_one_batch, is_one_length=is_one_length)
            pair = free_axes(graph, first, rule), free_axes(graph, other, rule)
            if pair[0] not in seen:
                seen.append(pair[0])
                yield pair


@dataclass(frozen=True, slots=True)
class _Rule:
    """How free axes are sized.

    Attributes:
        step: from one axis to the next.
        is_one_batch: the first axis of each input is the batch, whatever its name.
        is_one_length: all other free axes are equal.
    """

    step: int = 1
    is_one_batch: bool = False
    is_one_length: bool = False


def free_axes(graph: onnx.GraphProto, sizes: tuple[int, int], rule: _Rule | None = None) -> Axes:
    """Give every named or unnamed free axis of the graph's inputs a size.

    Args:
        graph: a scanned graph.
        sizes: of the first axis seen (the batch), and of the second; each further one is larger.
        rule: other than one size for each name.
    """
    rule = rule or _Rule()
    axes: Axes = {}
    sums = []
    for value in graph_inputs(graph):
        for place, name in enumerate(axis_names(value)):
            if not isinstance(name, str) or name in axes:
                continue
            if "+" in name:
                sums.append(name)
            elif not axes or (rule.is_one_batch and place == 0):
                axes[name] = sizes[0]
            else:
                axes[name] = _length(axes, sizes, rule)
    for name in sums:  # exporters write "past + 1" for an axis that follows from others
        terms = [term.strip() for term in name.split("+")]
        for term in terms:
            if not term.isdecimal() and term not in axes:
                axes[term] = _length(axes, sizes, rule)
        axes[name] = sum(int(t) if t.isdecimal() else axes[t] for t in terms)
    return axes


def _length(axes: Axes, sizes: tuple[int, int], rule: _Rule) -> int:
    others = 0 if rule.is_one_length else sum(size != sizes[0] for size in axes.values())
    return sizes[1] + rule.step * others


def axis_names(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return the dimensions of a value: sizes, or names of free axes (made up when unnamed)."""
    names: list[int | str] = []
    for place, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            names.append(dim.dim_value)
        else:
            names.append((dim.dim_param or f"{value.name}.{place}")[:64])
    return names


def graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs a caller must feed: those that are not weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def make_inputs(graph: onnx.GraphProto, axes: Mapping[str, int]) -> dict[str, Array]:
    """Make the golden inputs: seeded by their names, indices inside their tables.

    Raises:
        ModelRefused: an input of a fixed shape that is too large to be made.
    """
    tables = dict(_index_bounds(graph))
    inputs: dict[str, Array] = {}
    for value in graph_inputs(graph):
        shape = [axes[name] if isinstance(name, str) else name for name in axis_names(value)]
        if int(np.prod(shape, dtype=object)) > 2**24:
            raise ModelRefused(f"input {value.name!r} has shape {shape}, too large to try out")
        dtype = Dtype(value.type.tensor_type.elem_type)
        # Bytes that index nothing are levels of a picture or of a quantised tensor.
        otherwise = 127 if dtype in (Dtype.I8, Dtype.U8) else 2
        seed = int.from_bytes(hashlib.sha256(value.name.encode()).digest()[:8], "big")
        inputs[value.name] = _values(
            value.name, dtype, shape, np.random.default_rng(seed), tables.get(value.name, otherwise)
        )
    return inputs


def _values(
    name: str, dtype: Dtype, shape: list[int], dice: np.random.Generator, bound: int
) -> Array:
    if dtype in (Dtype.F32, Dtype.F16):
        return dice.standard_normal(shape).astype(NUMPY[dtype])
    if "mask" in name.lower():
        ones = np.ones(shape, dtype=NUMPY[dtype])
        # Row r is padded by r places at most, so that both sides of a mask are tried.
        places = shape[-1] if len(shape) > 1 else 0
        for row in range(min(shape[0], places) if places else 0):
            ones[row, ..., places - row :] = 0
        if places:
            ones[places:, ..., 1:] = 0  # at once: an axis of a stranger's graph may be of millions
        return ones
    top = min(bound, 127 if dtype in (Dtype.I8, Dtype.U8) else 2**31 - 1)
    return dice.integers(0, max(1, top), shape).astype(NUMPY[dtype])


def _index_bounds(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield each input that indexes a table of weights, with the rows of the smallest table."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    source: dict[str, str] = {}
    bounds: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _WIDENS and node.input and node.input[0] in rows:
            rows[node.output[0]] = rows[node.input[0]]
        if node.op_type in _HANDS_ON and node.input and node.output:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
        for index, table in _GATHERS.get(node.op_type, ()):
            if len(node.input) > max(index, table) and node.input[table] in rows:
                name = source.get(node.input[index], node.input[index])
                size = rows[node.input[table]]
                bounds[name] = min(size, bounds.get(name, size))
    yield from bounds.items()


def save(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a golden file: u32 length | `Golden` | raw tensors."""
    heads, buffers = write_arrays(arrays)
    head = encode(Golden(heads))
    return b"".join((_LENGTH.pack(len(head)), head, *buffers))


def load(raw: bytes) -> dict[str, Array]:
    """Read a golden file.

    Raises:
        ModelRefused: bytes that are no golden file.
    """
    try:
        (length,) = _LENGTH.unpack_from(raw)
        body = memoryview(raw)[_LENGTH.size :]
        head = decode(body[:length], Golden, size_max=FRAME_HEAD_BYTES_MAX)
        return read_arrays(head.tensors, body[length:])
    except (struct.error, WireError, InputMismatch) as error:
        raise ModelRefused(f"the golden rows do not read: {error}") from error
