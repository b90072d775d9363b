"""Weights beside a graph: read through mapped files, moved inside, or laid out in files anew.

Knows tensors that point into other files. Must not open a file by a name a model gives: a child
gets descriptors, and what they are called is told with them. Weights this worker lays out are
called by the sha256 of their file, so that the bytes of a graph pin those of its weights.

Source: docs/spec/work.md, "Weights beside the graph".
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx

from prsm.protocol.limits import MIB, SHARD_WEIGHTS_MAX
from prsm.protocol.messages.pipe import FileName, ModelRefused

Beside = Mapping[str, memoryview]  # name in the graph -> content of that file

# Smaller tensors stay inside: shapes and scalars, which the runtime wants when it loads.
APART_BYTES_MIN: Final = 1024
_FILE_BYTES_MIN: Final = 32 * MIB
_FILES_GOAL: Final = 128  # for the whole model
_ALIGNMENT: Final = 64
# Bits of one element, and which field holds elements when raw_data is not used.
ELEMENT: Final[dict[int, tuple[int, str]]] = {
    onnx.TensorProto.FLOAT: (32, "float_data"),
    onnx.TensorProto.DOUBLE: (64, "double_data"),
    onnx.TensorProto.INT64: (64, "int64_data"),
    onnx.TensorProto.UINT64: (64, "uint64_data"),
    onnx.TensorProto.UINT32: (32, "uint64_data"),
    onnx.TensorProto.INT32: (32, "int32_data"),
    onnx.TensorProto.INT16: (16, "int32_data"),
    onnx.TensorProto.INT8: (8, "int32_data"),
    onnx.TensorProto.UINT16: (16, "int32_data"),
    onnx.TensorProto.UINT8: (8, "int32_data"),
    onnx.TensorProto.INT4: (4, "int32_data"),
    onnx.TensorProto.UINT4: (4, "int32_data"),
    onnx.TensorProto.BOOL: (8, "int32_data"),
    onnx.TensorProto.FLOAT16: (16, "int32_data"),
    onnx.TensorProto.BFLOAT16: (16, "int32_data"),
}


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights laid out here: `parts` one behind the other are its bytes."""

    name: FileName
    digest: str  # sha256 in hex, what graphs call it
    parts: tuple[bytes | memoryview, ...]


def by_digest(files: Sequence[memoryview]) -> dict[str, memoryview]:
    """Name files by their sha256, as laid-out graphs do."""
    return {hashlib.sha256(data).hexdigest(): data for data in files}


def is_apart(tensor: onnx.TensorProto) -> bool:
    """Does this tensor say that its bytes lie elsewhere?"""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's elements, wherever they lie."""
    bits, _ = ELEMENT[tensor.data_type]
    return (prod(tensor.dims) * bits + 7) // 8


def place_of(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """Return file, offset and length of a tensor apart; numbers are checked, the name is not.

    Raises:
        ModelRefused: a field that is missing, unknown or no number.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    where = f"weight {tensor.name[:80]!r}"
    unknown = sorted(set(fields) - {"location", "offset", "length", "checksum"})
    if unknown or "location" not in fields:
        raise ModelRefused(f"{where} lies in another file, and does not say where by the format")
    numbers = [fields.get("offset", "0"), fields.get("length", str(size_of(tensor)))]
    if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers):
        raise ModelRefused(f"{where} lies at {numbers[0][:40]!r}, {numbers[1][:40]!r} bytes long")
    return fields["location"], int(numbers[0]), int(numbers[1])


def check_apart(tensor: onnx.TensorProto, beside: Beside) -> None:
    """Judge a tensor whose bytes lie in another file.

    Raises:
        ModelRefused: a file that was not given, or a place that is not in it.
    """
    name, offset, length = place_of(tensor)
    where = f"weight {tensor.name[:80]!r}"
    if name not in beside:
        raise ModelRefused(f"{where} lies in another file: {name[:80]!r}, which is not given")
    if tensor.HasField("raw_data") or tensor.data_location != onnx.TensorProto.EXTERNAL:
        raise ModelRefused(f"{where} lies in another file and in this one")
    if length != size_of(tensor):
        raise ModelRefused(f"{where} announces {size_of(tensor)} bytes and has {length} outside")
    if offset + length > len(beside[name]):
        raise ModelRefused(
            f"{where} ends at {offset + length} of {len(beside[name])} bytes of {name[:80]!r}"
        )


def names_wanted(model: onnx.ModelProto) -> list[str]:
    """Return the files a model's weights lie in, in the order of the weights."""
    apart = (
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    )
    return list(dict.fromkeys(apart))


def used_by(graph: onnx.GraphProto, beside: Beside) -> dict[str, memoryview]:
    """Return those files that a graph's weights lie in."""
    names = {place_of(tensor)[0] for tensor in graph.initializer if is_apart(tensor)}
    return {name: data for name, data in beside.items() if name in names}


def move_inside(model: onnx.ModelProto, beside: Beside) -> None:
    """Copy all weights into the graph itself."""
    for tensor in model.graph.initializer:
        if is_apart(tensor):
            tensor.raw_data = bytes(_bytes_of(tensor, beside))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def lay_out(
    model: onnx.ModelProto, beside: Beside, *, file_bytes_min: int = _FILE_BYTES_MIN
) -> list[WeightFile]:
    """Move all large weights into files of our own layout, and let the graph name those.

    The layout follows from the graph alone: tensors in the order of their first use, each at a
    multiple of 64 bytes, a new file as soon as one has a 128th of the whole. So every split of a
    model shares the files, and a pin derived again names the same ones.

    Args:
        model: a pinned graph; changed in place.
        beside: where its weights are now.
        file_bytes_min: a file is at least so large, but for the last.

    Raises:
        ModelRefused: more files than one child can be given.
    """
    tensors = _in_order_of_use(model.graph)
    whole = sum(map(size_of, tensors))
    goal = max(file_bytes_min, -(-whole // _FILES_GOAL))
    files = []
    for number, group in enumerate(_grouped(tensors, goal)):
        parts: list[bytes | memoryview] = []
        places, end = [], 0
        for tensor in group:
            padding = -end % _ALIGNMENT
            data = _bytes_of(tensor, beside)
            parts += [bytes(padding), data]
            places.append(end + padding)
            end += padding + len(data)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        name = digest.hexdigest()
        files.append(WeightFile(f"weights-{number:03}.bin", name, tuple(parts)))
        for tensor, place in zip(group, places, strict=True):
            _point(tensor, name, place)
    if len(files) > SHARD_WEIGHTS_MAX:
        raise ModelRefused(f"{len(files)} files of weights, at most {SHARD_WEIGHTS_MAX}")
    return files


def _bytes_of(tensor: onnx.TensorProto, beside: Beside) -> memoryview:
    if not is_apart(tensor):
        return memoryview(tensor.raw_data)
    name, offset, length = place_of(tensor)
    return beside[name][offset : offset + length]


def _point(tensor: onnx.TensorProto, name: str, offset: int) -> None:
    length = size_of(tensor)
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _in_order_of_use(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    large = {
        tensor.name: tensor
        for tensor in graph.initializer
        if size_of(tensor) >= APART_BYTES_MIN and (tensor.raw_data or is_apart(tensor))
    }
    used = dict.fromkeys(name for node in graph.node for name in node.input if name in large)
    rest = sorted(set(large) - set(used))
    return [large[name] for name in (*used, *rest)]


def _grouped(tensors: Sequence[onnx.TensorProto], goal: int) -> Iterator[list[onnx.TensorProto]]:
    group: list[onnx.TensorProto] = []
    size = 0
    for tensor in tensors:
        group.append(tensor)
        size += size_of(tensor)
        if size >= goal:
            yield group
            group, size = [], 0
    if group:
        yield group
