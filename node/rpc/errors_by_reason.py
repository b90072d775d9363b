"""`from prsm.client import errors`: `errors.NotFound`, one class for each reason.

Knows: how names and reasons stand to one another. Must not know: calls.
"""

from prsm.node.rpc.faults import RpcError, class_for, class_name
from prsm.node.rpc.reasons import REGISTRY

__all__ = ["RpcError"]


def __getattr__(name: str) -> type[RpcError]:
    """The class of a reason by its name.

    Raises:
        AttributeError: there is no such reason.
    """
    for reason in REGISTRY:
        if class_name(reason) == name:
            return class_for(reason)
    raise AttributeError(f"no error is called {name!r}; prsm explain lists all")


def __dir__() -> list[str]:
    """Every class, for completion in shells and notebooks."""
    return sorted(["RpcError", *(class_name(reason) for reason in REGISTRY)])
