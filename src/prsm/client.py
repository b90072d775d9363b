"""The client of a PRSM node for programs and notebooks: `from prsm.client import Client`.

Everything is loaded when it is first named, so that a program pays for what it uses.

Knows: where the parts are. Must not know: the daemon.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prsm.node.rpc import errors_by_reason as errors
    from prsm.node.rpc.faults import RpcError
    from prsm.node.rpc.sdk.aclient import AsyncClient
    from prsm.node.rpc.sdk.client import Client
    from prsm.node.rpc.sdk.flows import Retries
    from prsm.node.rpc.sdk.receipts import Proof, proof_from
    from prsm.node.rpc.sdk.tensors import raw, tensor, view
    from prsm.node.rpc.target import Credentials

__all__ = [
    "AsyncClient",
    "Client",
    "Credentials",
    "Proof",
    "Retries",
    "RpcError",
    "errors",
    "proof_from",
    "raw",
    "tensor",
    "view",
]

# name -> its module
_PLACES = {
    "AsyncClient": "prsm.node.rpc.sdk.aclient",
    "Client": "prsm.node.rpc.sdk.client",
    "Credentials": "prsm.node.rpc.target",
    "Proof": "prsm.node.rpc.sdk.receipts",
    "Retries": "prsm.node.rpc.sdk.flows",
    "RpcError": "prsm.node.rpc.faults",
    "proof_from": "prsm.node.rpc.sdk.receipts",
    "raw": "prsm.node.rpc.sdk.tensors",
    "tensor": "prsm.node.rpc.sdk.tensors",
    "view": "prsm.node.rpc.sdk.tensors",
}
_ERRORS = "prsm.node.rpc.errors_by_reason"


def __getattr__(name: str) -> object:
    """A part, loaded now and kept.

    Raises:
        AttributeError: there is none of that name.
    """
    if name not in __all__:
        raise AttributeError(f"prsm.client has no {name!r}, only {', '.join(__all__)}")
    from importlib import import_module  # noqa: PLC0415 - only for what is loaded late

    place = _PLACES.get(name)
    found = import_module(_ERRORS) if place is None else getattr(import_module(place), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All of them, loaded or not, for completion."""
    return sorted({*globals(), *__all__})
