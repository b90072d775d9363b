"""`client.job.list()`: a namespace of the table as an attribute, its methods as functions.

Their types are in `surface.pyi`, written from the table by `scripts/stubs.py`; a function built at
run time costs nothing until it is named.

Knows: names. Must not know: how a call travels.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

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


class Surface:
    """Attributes of a client that stand for namespaces; the client below says how to call."""

    def _do(self, method: "Method", params: Mapping[str, object]) -> object:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Namespace:
        """A namespace.

        Raises:
            AttributeError: there is none of that name.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        return Namespace(name, names.methods_of(name), self._do)

    @override
    def __dir__(self) -> list[str]:
        """Namespaces too, for completion."""
        return sorted({*object.__dir__(self), *names.namespaces()})


AsyncSurface = Surface  # the same at run time; its functions give awaitables


def _signature(method: "Method") -> str:
    return "(" + ", ".join(method.params.__struct_fields__) + ")"
