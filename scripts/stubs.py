"""`python3 scripts/stubs.py [--check]`: the types of the client's namespaces, from the table.

Writes node/rpc/sdk/surface.pyi, so that `client.job.list()` has its type in editors and in mypy,
and costs nothing at run time. Run by the interpreter of `.venv`.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from generated import ROOT, formatted, keep
from msgspec import inspect

sys.path.insert(0, str(ROOT / "src"))

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.sdk.names import spoken
from prsm.node.rpc.spec import FORMS, Method, Scope

FILE: Final = ROOT / "node" / "rpc" / "sdk" / "surface.pyi"
_HEAD: Final = """# Written by scripts/stubs.py from the table of methods.
# ruff: noqa: A002 - names of the table

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal

{imports}from prsm.node.rpc.spec import Method

"""


class Stub:
    """The text of the stub, and the modules it names."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = {n: m for n, m in methods.items() if not n.startswith("sub_")}
        self._modules: set[str] = set()

    def text(self) -> str:
        """All of it."""
        names = sorted({name.partition("_")[0] for name in self._methods})
        parts = [
            "\n".join(self._namespace(name, is_async=is_async))
            for is_async in (False, True)
            for name in names
        ]
        parts += ["\n".join(_surface(names, is_async=is_async)) for is_async in (False, True)]
        imports = "".join(
            f"from {room} import {name} as _{name}\n"
            for room, _, name in (module.rpartition(".") for module in sorted(self._modules))
        )
        return _HEAD.format(imports=imports) + "\n\n".join(parts) + "\n"

    def _namespace(self, name: str, *, is_async: bool) -> Iterator[str]:
        yield f"class {_class(name, is_async=is_async)}:"
        for method in sorted(self._methods):
            if method.partition("_")[0] == name:
                yield self._function(self._methods[method], is_async=is_async)

    def _function(self, method: Method, *, is_async: bool) -> str:
        info = inspect.type_info(method.params)
        assert isinstance(info, inspect.StructType)
        params = [self._param(field) for field in info.fields]
        if method.scope is not Scope.READ:
            params.append('idempotency_key: str = ""')
        given = "".join(f", {param}" for param in params)
        head = "async def" if is_async else "def"
        result = self._result(method.result)
        return f"    {head} {spoken(method.name)}(self{given}) -> {result}: ..."

    def _param(self, field: inspect.Field) -> str:
        shown = self._given(field.type)
        return f"{field.name}: {shown}" + ("" if field.required else " = ...")

    def _given(self, info: inspect.Type) -> str:  # noqa: C901, PLR0911 - dispatch
        match info:
            case inspect.StrType():
                meaning = FORMS.get(info.pattern or "", "")
                if "micro-FTNS" in meaning:
                    return "str | int"
                return "str | bytes" if "hex" in meaning else "str"
            case inspect.IntType():
                return "int"
            case inspect.BoolType():
                return "bool"
            case inspect.NoneType():
                return "None"
            case inspect.LiteralType():
                return f"Literal[{', '.join(map(repr, info.values))}]"
            case inspect.Metadata():
                return self._given(info.type)
            case inspect.UnionType():
                return " | ".join(dict.fromkeys(self._given(one) for one in info.types))
            case inspect.VarTupleType() | inspect.ListType():
                return f"Sequence[{self._given(info.item_type)}]"
            case inspect.DictType():
                return f"Mapping[{self._given(info.key_type)}, {self._given(info.value_type)}]"
            case inspect.StructType():
                return f"{self._struct(info.cls)} | Mapping[str, object]"
            case _:
                return "object"

    def _result(self, kind: Any) -> str:  # noqa: ANN401 - a type or an alias
        if isinstance(kind, type) and hasattr(kind, "__struct_fields__"):
            return self._struct(kind)
        return "dict[str, Any]"

    def _struct(self, cls: type) -> str:
        self._modules.add(cls.__module__)
        return f"{_alias(cls.__module__)}.{cls.__name__}"


def _alias(module: str) -> str:
    return f"_{module.rpartition('.')[2]}"


def _class(name: str, *, is_async: bool) -> str:
    return f"_{'Async' if is_async else ''}{name.capitalize()}"


def _surface(names: list[str], *, is_async: bool) -> Iterator[str]:
    yield f"class {'Async' if is_async else ''}Surface:"
    result = "Coroutine[Any, Any, object]" if is_async else "object"
    yield f"    def _do(self, method: Method, params: Mapping[str, object]) -> {result}: ..."
    for name in names:
        yield f"    @property\n    def {name}(self) -> {_class(name, is_async=is_async)}: ..."


def written() -> str:
    """The stub as it should be, formatted."""
    return formatted(FILE, Stub(METHODS).text())


def main() -> None:
    """Write it, or with `--check` only say whether it is current."""
    command = ".venv/bin/python scripts/stubs.py"
    keep(FILE, written(), command=command, only_check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
