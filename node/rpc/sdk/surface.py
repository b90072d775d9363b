"""`client.job.list()`: a namespace of the table as an attribute, its methods as functions.

Their types are in `surface.pyi`, written from the table by `scripts/stubs.py`; at run time the
table is loaded when a namespace is first named.

Knows: where names are looked up. Must not know: how a call travels.
"""

from typing import TYPE_CHECKING

from prsm.node.rpc.mark import override

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prsm.node.rpc.sdk.namespace import Namespace
    from prsm.node.rpc.spec import Method


class Surface:
    """Attributes of a client that stand for namespaces; the client below says how to call."""

    def _do(self, method: "Method", params: "Mapping[str, object]") -> object:
        raise NotImplementedError

    def __getattr__(self, name: str) -> "Namespace":
        """A namespace.

        Raises:
            AttributeError: there is none of that name.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        from prsm.node.rpc.sdk import names  # noqa: PLC0415 - loads the table
        from prsm.node.rpc.sdk.namespace import Namespace  # noqa: PLC0415 - as above

        return Namespace(name, names.methods_of(name), self._do)

    @override
    def __dir__(self) -> list[str]:
        """Namespaces too, for completion."""
        from prsm.node.rpc.sdk import names  # noqa: PLC0415 - loads the table

        return sorted({*object.__dir__(self), *names.namespaces()})


AsyncSurface = Surface  # the same at run time; its functions give awaitables
