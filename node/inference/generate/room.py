"""Both sides of generation in one node: what it asks of others, and what it does for them."""

from functools import partial
from pathlib import Path

import trio

from prsm.node.inference.desk import Desk
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.generate.speech import speaking
from prsm.node.inference.generate.worker import Sessions
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.pool import Pool
from prsm.node.inference.terms import Terms
from prsm.storage.receipts import ReceiptFiles


class Generating:
    """Generations of ours, and sessions of peers where this node works.

    Args:
        requester: what ours work with.
        pool: where tokenizers run; None: generations are refused.
        desk: what sessions work with, None where this node works for nobody.
        terms: what it asks.
        notes: folder of the ids of jobs that hold money.
    """

    def __init__(
        self,
        requester: Requester,
        pool: Pool | None,
        desk: Desk | None,
        terms: Terms,
        *,
        notes: Path,
    ) -> None:
        speech = None if pool is None else partial(speaking, pool)
        self.generations = Generations(requester, speech, notes=ReceiptFiles(notes))
        self.sessions = None if desk is None else Sessions(desk, terms)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run both until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.sessions is not None:
                await nursery.start(self.sessions.run)
            await nursery.start(self.generations.run)
            task_status.started()
