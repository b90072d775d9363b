"""The methods of a namespace as functions: `client.job` has `list`, `get` and the others.

A function is built when it is named, so that one that nobody calls costs nothing.

Knows: the table. Must not know: how a call travels.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prsm.node.rpc.mark import override
from prsm.node.rpc.sdk import names

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Method  # its module takes 3 ms, its bare name nothing

Do = Callable[["Method", Mapping[str, object]], object]


class Namespace:
    """The methods whose names begin alike."""

    def __init__(self, name: str, methods: "Mapping[str, Method]", do: Do) -> None:
        self._name = name
        self._methods = methods
        self._do = do

    def __getattr__(self, name: str) -> Callable[..., object]:
        """One method as a function.

        Raises:
            AttributeError: there is none of that name.
        """
        if name not in self._methods:
            known = ", ".join(sorted(self._methods))
            raise AttributeError(f"client.{self._name} has no {name!r}, only {known}")
        method, do = self._methods[name], self._do

        def call(*given: object, **named: object) -> object:
            return do(method, names.params_of(method, given, named))

        call.__name__ = name
        call.__doc__ = f"{method.summary}\n\n{method.name}{_signature(method)}"
        return call

    @override
    def __dir__(self) -> list[str]:
        """The methods, for completion."""
        return sorted(self._methods)

    @override
    def __repr__(self) -> str:
        """What is in it."""
        return f"<client.{self._name}: {', '.join(sorted(self._methods))}>"


def _signature(method: "Method") -> str:
    return "(" + ", ".join(method.params.__struct_fields__) + ")"
