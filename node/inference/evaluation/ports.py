"""What evaluation asks of the ledger beside `Chain`: who is drawn, for what.

The daemon's account and the chain of tests stand behind it. Must not know: how a draw is made.
"""

from typing import Protocol

from prsm.consensus.ledger.evaluations import Evaluation
from prsm.node.inference.interface import Chain


class EvaluationChain(Chain, Protocol):
    """The chain, with evaluations."""

    def evaluation(self, job: bytes) -> Evaluation | None:
        """What was asked for under this id, if this node's ledger has it."""
        ...

    def evaluations(self) -> tuple[bytes, ...]:
        """Ids of all this account asked for; slow, for the start of a process."""
        ...
