"""Tensors in and out of JSON without numpy: anything with a buffer goes in, a view comes out.

`numpy.asarray(view(tensor))` shares the bytes; numpy itself is the reader's to import.

Knows: dtypes, the buffer protocol. Must not know: models.
"""

import sys
from typing import Any, Final

from prsm.node.rpc.methods.work import TensorText

_CODES: Final = {"f32": "f", "i64": "q", "i32": "i", "i8": "b", "u8": "B", "bool": "?"}
_DTYPES: Final = {code: name for name, code in _CODES.items()} | {"l": "i64", "e": "f16"}
assert sys.byteorder == "little", "tensors travel little-endian; nobody ran this elsewhere"


def tensor(name: str, array: object) -> TensorText:
    """A tensor of anything with a buffer: an array of numpy, `array.array`, bytes.

    Args:
        name: of the model's input.
        array: C-contiguous; its format and shape become dtype and shape.

    Raises:
        ValueError: a format that is no dtype, or not C-contiguous.
        TypeError: it has no buffer.
    """
    held = memoryview(array)  # type: ignore[arg-type]  # a TypeError says what has no buffer
    code = held.format.lstrip("@=<")
    if code not in _DTYPES:
        raise ValueError(
            f"{name}: format {held.format!r} is no dtype; convert it to float32 or int64"
        )
    if not held.c_contiguous:
        raise ValueError(f"{name}: not C-contiguous; copy it first")
    return TensorText(name, _DTYPES[code], tuple(held.shape or ()), "0x" + held.tobytes().hex())


def view(one: TensorText) -> memoryview:
    """The values of a tensor, shaped; `.tolist()` makes lists of it.

    Raises:
        ValueError: f16, which Python has no view of: read `raw` with numpy.
    """
    if one.dtype not in _CODES:
        raise ValueError(f"{one.name} is {one.dtype}; try numpy.frombuffer(raw(tensor), 'float16')")
    flat: Any = memoryview(raw(one))  # the code decides what it is a view of
    code = _CODES[one.dtype]
    if not one.shape or 0 in one.shape:
        shaped: memoryview = flat.cast(code)  # of no dimension, or empty: no shape to give
    else:
        shaped = flat.cast(code, one.shape)
    return shaped


def raw(one: TensorText) -> bytes:
    """The bytes of a tensor, little-endian in C order."""
    return bytes.fromhex(one.data[2:])
