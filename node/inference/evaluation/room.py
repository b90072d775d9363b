"""Both sides of evaluation on one node: its own, and those it does for others.

Joins parts; knows nothing of what they do.
"""

from dataclasses import dataclass

import trio

from prsm.node.inference.desk import Desk
from prsm.node.inference.evaluation.ports import EvaluationChain
from prsm.node.inference.evaluation.requester import Evaluations
from prsm.node.inference.evaluation.worker import Evaluator
from prsm.node.inference.interface import Models
from prsm.node.inference.links import Links
from prsm.node.inference.terms import Terms


@dataclass(frozen=True, slots=True)
class EvaluationRoom:
    """What runs."""

    ours: Evaluations
    for_others: Evaluator | None  # None: this node runs no models

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Both sides, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.ours.run)
            if self.for_others is not None:
                await nursery.start(self.for_others.run)
            task_status.started()


def open_evaluation(
    links: Links, chain: EvaluationChain, models: Models, desk: Desk | None, terms: Terms
) -> EvaluationRoom:
    """Join the sides; nothing runs yet."""
    ours = Evaluations(links.network, chain, models, links.verifier)
    return EvaluationRoom(ours, None if desk is None else Evaluator(desk, chain, terms))
