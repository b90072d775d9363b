"""The models of this node: prepared, stored, named on the ledger, fetched from peers."""

from prsm.node.models.records import (
    Known,
    NotCommitted,
    Stats,
    Tools,
    UnknownModel,
    Wanted,
    WorkerState,
)
from prsm.node.models.shelf import Models

__all__ = [
    "Known",
    "Models",
    "NotCommitted",
    "Stats",
    "Tools",
    "UnknownModel",
    "Wanted",
    "WorkerState",
]
