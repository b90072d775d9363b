"""Canonical, bounded msgpack: one value has one byte string, and hostile bytes cost little.

A wire record is a frozen `Record` (a msgspec array). Bytes are unpacked by msgpack under bounds,
shaped into the record by msgspec, which checks every type and bound of its annotations, and packed
again by msgspec and compared, so that non-minimal integers and other spellings are refused. Two
independent libraries must agree on each byte.

Maps, floats, extension types and NaN do not exist on the wire.
"""

from typing import Any, Final, TypeVar

import msgpack
import msgspec

from prsm.protocol.errors import WireError
from prsm.protocol.limits import ARRAY_LENGTH_MAX, ARRAYS_TOTAL_MAX, NESTING_MAX


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all wire records: a fixed array of typed, bounded fields.

    A field has no default: an array without it would be a second spelling of the same record.
    """


_T = TypeVar("_T")
_encoder: Final = msgspec.msgpack.Encoder()
# What msgpack raises on hostile bytes; StackError and FormatError are ValueErrors.
_MSGPACK_ERRORS: Final = (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException)


def encode(value: Any) -> bytes:  # noqa: ANN401 - any record or plain value of the wire
    """Return the canonical bytes of a record or of nested tuples, ints, bytes, str, bool, None."""
    return _encoder.encode(value)


def decode(raw: bytes | memoryview, shape: type[_T], *, size_max: int) -> _T:
    """Read canonical bytes as `shape`, or refuse them.

    Args:
        raw: exactly one value, nothing behind it.
        shape: a `Record` class or another type msgspec can check.
        size_max: bytes accepted; the caller knows which bound of protocol/limits applies.

    Raises:
        WireError: too long, not canonical, too many or too deep arrays, or not of that shape.
    """
    record = shape_value(_unpacked(raw, size_max=size_max), shape)
    # Also a field with a default that a sender left out: the same record, other bytes.
    if encode(record) != raw:
        raise WireError(f"not canonical: another spelling of {getattr(shape, '__name__', 'it')}")
    return record


def decode_value(raw: bytes | memoryview, *, size_max: int) -> object:
    """Read canonical bytes as nested tuples, ints, bytes, str, bool and None.

    Raises:
        WireError: too long, not canonical, a float, or too many or too deep arrays.
    """
    value = _unpacked(raw, size_max=size_max)
    if encode(value) != raw:
        raise WireError("not canonical msgpack: the same value has a shorter spelling")
    return value


def _unpacked(raw: bytes | memoryview, *, size_max: int) -> object:
    """The value that bounded bytes spell, canonical or not."""
    if len(raw) > size_max:
        raise WireError(f"{len(raw)} bytes, at most {size_max}", penalty=50)
    arrays = 0

    def count(items: tuple[object, ...]) -> tuple[object, ...]:
        nonlocal arrays
        arrays += 1
        if arrays > ARRAYS_TOTAL_MAX:
            raise ValueError(f"more than {ARRAYS_TOTAL_MAX} arrays")
        if float in map(type, items):
            raise ValueError("a float")
        return items

    try:
        value: object = msgpack.unpackb(
            raw,
            use_list=False,
            list_hook=count,
            object_hook=_refuse_map,
            ext_hook=_refuse_ext,
            strict_map_key=True,
            max_array_len=ARRAY_LENGTH_MAX,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=size_max,
            max_bin_len=size_max,
        )
    except _MSGPACK_ERRORS as error:
        raise WireError(
            f"not canonical msgpack: {str(error)[:120] or type(error).__name__}"
        ) from error
    if type(value) is float:
        raise WireError("not canonical msgpack: a float")
    if arrays >= NESTING_MAX:  # fewer cannot be nested deeper
        _refuse_depth(value)
    return value


def shape_value(value: object, shape: type[_T]) -> _T:
    """Check an unpacked value against a record class.

    Raises:
        WireError: a field is missing, surplus, of another type or out of its bounds.
    """
    try:
        # Without builtin_types a str would be read as base64 where bytes are asked for.
        return msgspec.convert(value, shape, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise WireError(f"no {getattr(shape, '__name__', 'value')}: {error}") from error


def _refuse_map(_items: dict[object, object]) -> object:
    raise ValueError("a map")


def _refuse_ext(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _refuse_depth(value: object) -> None:
    level = [value]
    for _ in range(NESTING_MAX):
        level = [item for outer in level if isinstance(outer, tuple) for item in outer]
        if not level:
            return
    raise WireError(f"nested deeper than {NESTING_MAX}")
