"""How methods are called in Python: `job_getResult` is `client.job.get_result`.

Knows: the table, loaded when a method is first named. Must not know: how a call travels.
"""

import re
from collections.abc import Mapping
from keyword import iskeyword
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, get_args

import msgspec

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Method  # its module takes 3 ms, its bare name nothing

_CAPITAL: Final = re.compile(r"(?<=[a-z])[A-Z]")


def spoken(method: str) -> str:
    """The part behind the namespace, as Python spells it; `import_` for what is a keyword."""
    name = _CAPITAL.sub(lambda found: "_" + found[0].lower(), method.partition("_")[2])
    return name + "_" if iskeyword(name) else name


def all_methods() -> "Mapping[str, Method]":
    """The table; making its structs takes as long as importing the client."""
    from prsm.node.rpc.methods.table import METHODS  # noqa: PLC0415 - as above

    return METHODS


def method_named(name: str) -> "Method":
    """A method by the name of the table.

    Raises:
        AttributeError: there is none; the nearest is named.
    """
    methods = all_methods()
    if name not in methods:
        raise AttributeError(f"no method is called {name!r}{_nearest(name, list(methods))}")
    return methods[name]


def namespaces() -> list[str]:
    """All of them, sorted."""
    return sorted({name.partition("_")[0] for name in all_methods()})


def methods_of(namespace: str) -> "Mapping[str, Method]":
    """Methods of a namespace by their names in Python.

    Raises:
        AttributeError: there is no such namespace; the nearest is named.
    """
    found = {
        spoken(name): method
        for name, method in all_methods().items()
        if name.startswith(namespace + "_")
    }
    if not found:
        raise AttributeError(
            f"no namespace is called {namespace!r}{_nearest(namespace, namespaces())}"
        )
    return found


def params_of(
    method: "Method", given: tuple[object, ...], named: Mapping[str, object]
) -> dict[str, object]:
    """Parameters as the node reads them, from arguments as people write them.

    Bytes become `0x…`, paths text, whole numbers of micro-FTNS decimal strings. What is unknown or
    out of bounds is left to the node, which names the nearest.

    Raises:
        TypeError: more arguments than parameters, or one given twice.
    """
    fields = method.params.__struct_fields__
    if len(given) > len(fields):
        raise TypeError(f"{method.name} takes {len(fields)} parameters, {len(given)} were given")
    values = dict(zip(fields, given, strict=False))
    if twice := set(values) & set(named):
        raise TypeError(f"{method.name}: {min(twice)} was given twice")
    kinds = method.params.__annotations__
    return {name: _plain(value, kinds.get(name)) for name, value in {**values, **named}.items()}


def _plain(value: object, kind: object) -> object:  # noqa: PLR0911 - dispatch
    match value:
        case bytes() | bytearray():
            return "0x" + value.hex()
        case PurePath():
            return str(value)
        case msgspec.Struct():
            return msgspec.to_builtins(value)
        case bool() | str():
            return value
        case int():
            return str(value) if _is_amount(kind) else value
        case Mapping():
            return {name: _plain(one, None) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one, None) for one in value]
        case _:
            return value


def _is_amount(kind: object) -> bool:
    from prsm.node.rpc.spec import AmountText  # noqa: PLC0415 - as above

    return kind == AmountText or any(_is_amount(one) for one in get_args(kind))


def _nearest(name: str, names: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only for who mistypes

    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
