"""The client of a PRSM node for programs and notebooks: `from prsm.client import Client`.

Knows: where the parts are; the async one is loaded when it is named. Must not know: the daemon.
"""

from typing import TYPE_CHECKING

from prsm.node.rpc import errors_by_reason as errors
from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.sdk.client import Client
from prsm.node.rpc.sdk.flows import Retries
from prsm.node.rpc.target import Credentials

if TYPE_CHECKING:
    from prsm.node.rpc.sdk.aclient import AsyncClient
    from prsm.node.rpc.sdk.receipts import Proof, proof_from
    from prsm.node.rpc.sdk.tensors import raw, tensor, view

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

_LATER = {
    "AsyncClient": "prsm.node.rpc.sdk.aclient",
    "Proof": "prsm.node.rpc.sdk.receipts",
    "proof_from": "prsm.node.rpc.sdk.receipts",
    "raw": "prsm.node.rpc.sdk.tensors",
    "tensor": "prsm.node.rpc.sdk.tensors",
    "view": "prsm.node.rpc.sdk.tensors",
}


def __getattr__(name: str) -> object:
    """What most programs never name.

    Raises:
        AttributeError: there is none of that name.
    """
    if name not in _LATER:
        raise AttributeError(f"prsm.client has no {name!r}, only {', '.join(__all__)}")
    from importlib import import_module  # noqa: PLC0415 - only for what is loaded late

    return getattr(import_module(_LATER[name]), name)
