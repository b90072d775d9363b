"""Golden rows: made-up, repeatable inputs of a graph, and the file that keeps them for a shard.

The rows prove two things: that a split equals the whole, and that two workers are of one
determinism class. They need no meaning, only to pass through every operator with varied values.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
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
_LENGTH: Final = struct.Struct(">I")
_GATHERS: Final = {"Gather": ((1, 0),), "EmbedLayerNormalization": ((0, 2), (1, 4))}


def free_axes(graph: onnx.GraphProto, sizes: tuple[int, int]) -> dict[str, int]:
    """Give every named or unnamed free axis of the graph's inputs a size.

    Args:
        graph: a scanned graph.
        sizes: of the first axis seen (the batch), and of the second; each further one is larger.
    """
    axes: dict[str, int] = {}
    for value in graph_inputs(graph):
        for name in axis_names(value):
            if isinstance(name, str) and name not in axes:
                axes[name] = sizes[0] if not axes else sizes[1] + len(axes) - 1
    return axes


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
        seed = int.from_bytes(hashlib.sha256(value.name.encode()).digest()[:8], "big")
        inputs[value.name] = _values(
            value.name, dtype, shape, np.random.default_rng(seed), tables.get(value.name, 2)
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
        for row in range(shape[0] if len(shape) > 1 else 0):
            ones[row, ..., shape[-1] - min(row, shape[-1] - 1) :] = 0
        return ones
    top = min(bound, 127 if dtype in (Dtype.I8, Dtype.U8) else 2**31 - 1)
    return dice.integers(0, max(1, top), shape).astype(NUMPY[dtype])


def _index_bounds(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield each input that indexes a table of weights, with the rows of the smallest table."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    bounds: dict[str, int] = {}
    for node in graph.node:
        for index, table in _GATHERS.get(node.op_type, ()):
            if len(node.input) > table and node.input[table] in rows:
                name, size = node.input[index], rows[node.input[table]]
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
