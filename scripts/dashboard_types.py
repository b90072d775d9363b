"""TypeScript types of the methods the dashboard names, made of the table that dispatches them.

Knows: msgspec's view of a type. Must not know: npm, the browser.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec import inspect

from prsm.node.rpc.methods.table import METHODS

_NAMED: Final = re.compile(r'"([a-z]+_[a-zA-Z]+)"')
_HEAD: Final = "// Made by scripts/dashboard.py of the table of methods; do not edit.\n"


def render(sources: Iterable[str]) -> str:
    """The whole of `rpc/types.ts`: an interface a struct, and `Methods` by name.

    Args:
        sources: texts; methods they name in quotes are those that are written.
    """
    named = {found[1] for text in sources for found in _NAMED.finditer(text)}
    shapes = {
        name: (inspect.type_info(METHODS[name].params), inspect.type_info(METHODS[name].result))
        for name in sorted(named & METHODS.keys())
    }
    found: dict[type, inspect.StructType] = {}
    for pair in shapes.values():
        for shape in pair:
            _collect(shape, found)
    names = _names(found)
    parts = [_HEAD]
    for cls in sorted(found, key=lambda one: names[one]):
        fields = [
            f"  {_key(field.encode_name)}{'' if field.required else '?'}: "
            f"{_spell(field.type, names)};\n"
            for field in found[cls].fields
        ]
        parts.append(f"export interface {names[cls]} {{\n{''.join(fields)}}}\n")
    rows = [
        f"  {name}: {{ params: {_spell(params, names)}; result: {_spell(result, names)} }};\n"
        for name, (params, result) in shapes.items()
    ]
    parts.append(f"export interface Methods {{\n{''.join(rows)}}}\n")
    scopes = [f"  {name}: {json.dumps(METHODS[name].scope)},\n" for name in shapes]
    parts.append(f"export const SCOPES: Record<string, string> = {{\n{''.join(scopes)}}};\n")
    return "\n".join(parts)


def _names(found: dict[type, inspect.StructType]) -> dict[type, str]:
    """The class's own name, with its module before it where two have the same."""
    counts = Counter(cls.__name__ for cls in found)
    return {
        cls: cls.__name__
        if counts[cls.__name__] == 1
        else cls.__module__.rpartition(".")[2].capitalize() + cls.__name__
        for cls in found
    }


def _collect(shape: inspect.Type, found: dict[type, inspect.StructType]) -> None:  # noqa: C901 - dispatch
    match shape:
        case inspect.Metadata():
            _collect(shape.type, found)
        case inspect.StructType():
            if shape.cls not in found:
                found[shape.cls] = shape
                for field in shape.fields:
                    _collect(field.type, found)
        case inspect.UnionType():
            for one in shape.types:
                _collect(one, found)
        case inspect.VarTupleType() | inspect.ListType():
            _collect(shape.item_type, found)
        case inspect.TupleType():
            for one in shape.item_types:
                _collect(one, found)
        case inspect.DictType():
            _collect(shape.value_type, found)
        case _:
            pass


def _spell(shape: inspect.Type, names: dict[type, str]) -> str:  # noqa: PLR0911, C901 - dispatch
    match shape:
        case inspect.Metadata():
            return _spell(shape.type, names)
        case inspect.StructType():
            return names[shape.cls]
        case inspect.UnionType():
            return " | ".join(dict.fromkeys(_spell(one, names) for one in shape.types))
        case inspect.LiteralType():
            return " | ".join(json.dumps(value) for value in shape.values)
        case inspect.VarTupleType() | inspect.ListType():
            return f"Array<{_spell(shape.item_type, names)}>"
        case inspect.TupleType():
            return f"[{', '.join(_spell(one, names) for one in shape.item_types)}]"
        case inspect.DictType():
            return f"Record<string, {_spell(shape.value_type, names)}>"
        case inspect.IntType() | inspect.FloatType():
            return "number"
        case inspect.StrType():
            return "string"
        case inspect.BoolType():
            return "boolean"
        case inspect.NoneType():
            return "null"
        case _:
            return "unknown"


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)
