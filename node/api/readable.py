"""Wire records the way people read and write them in JSON; canonical bytes stand beside, as `raw`.

`readable` and `record_of` are each other's inverse. Knows: shapes. Must not know: what a record
means.
"""

from typing import Final, TypeVar

from msgspec import inspect

from prsm.protocol.codec import Record, shape_value
from prsm.protocol.errors import LocalError, WireError

R = TypeVar("R", bound=Record)
_IS: Final = "is"  # which of several shapes an object has
_DEPTH_MAX: Final = 32


class BadDocument(LocalError):
    """JSON that is not the record it should be."""

    reason = "invalid_params"


def readable_record(record: Record) -> dict[str, object]:
    """Fields by name; one of several shapes says which it is as `is`."""
    fields = {name: readable(getattr(record, name)) for name in record.__struct_fields__}
    return fields if record.__struct_config__.tag is None else {_IS: type(record).__name__} | fields


def readable(value: object) -> object:
    """Bytes as hex, records as objects, arrays as lists, integers no double holds as text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Record):
        return readable_record(value)
    if isinstance(value, tuple):
        return [readable(item) for item in value]
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    return value


def record_of(document: object, cls: type[R]) -> R:
    """Read what `readable_record` writes.

    Args:
        document: decoded JSON of anybody.
        cls: a record class.

    Raises:
        BadDocument: a field is missing, unknown, of another type or out of its bounds; the text
            names the first.
    """
    plain = _plain(document, inspect.type_info(cls), cls.__name__)
    try:
        return shape_value(plain, cls)
    except WireError as error:
        raise BadDocument(error.what) from error


def _plain(value: object, kind: inspect.Type, path: str) -> object:
    """The nested tuples that shape into the record."""
    if path.count(".") > _DEPTH_MAX:
        raise BadDocument(f"{path[:80]}: nested more than {_DEPTH_MAX} deep")
    plain = value
    match kind:
        case inspect.Metadata():
            plain = _plain(value, kind.type, path)
        case inspect.UnionType():
            plain = _one_of(value, kind, path)
        case inspect.StructType():
            plain = _fields(value, kind, path)
        case inspect.VarTupleType():
            plain = _items(value, kind, path)
        case inspect.BytesType():
            plain = _bytes(value, path)
        case inspect.IntType() | inspect.EnumType():
            plain = _number(value, path)
        case _:
            pass  # needs no other form; shaping checks it
    return plain


def _items(value: object, kind: inspect.VarTupleType, path: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise BadDocument(f"{path}: a list belongs here")
    return tuple(_plain(item, kind.item_type, f"{path}.{i}") for i, item in enumerate(value))


def _one_of(value: object, kind: inspect.UnionType, path: str) -> object:
    shapes = {s.cls.__name__: s for s in kind.types if isinstance(s, inspect.StructType)}
    if value is None and any(isinstance(one, inspect.NoneType) for one in kind.types):
        return None
    if len(shapes) > 1:
        name = value.get(_IS) if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in shapes:
            raise BadDocument(f"{path}.{_IS}: one of {', '.join(sorted(shapes))} belongs here")
        return _plain(value, shapes[name], path)
    inner = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
    return _plain(value, inner, path)


def _fields(value: object, kind: inspect.StructType, path: str) -> tuple[object, ...]:
    if not isinstance(value, dict):
        raise BadDocument(f"{path}: an object belongs here")
    given = dict(value)
    if kind.tag is not None:
        given.pop(_IS, None)
    names = [field.name for field in kind.fields]
    wrong = sorted(set(names) ^ {str(name) for name in given})
    if wrong:
        raise BadDocument(f"{path}: fields unknown or missing: {', '.join(wrong)[:200]}")
    items = [_plain(given[f.name], f.type, f"{path}.{f.name}") for f in kind.fields]
    return tuple(items) if kind.tag is None else (kind.tag, *items)


def _bytes(value: object, path: str) -> bytes:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise BadDocument(f"{path}: 0x and pairs of hex digits belong here")


def _number(value: object, path: str) -> int:
    number = value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        number = int(value)
    if isinstance(number, int) and not isinstance(number, bool) and abs(number) < 2**63:
        return number
    raise BadDocument(f"{path}: a whole number belongs here")
