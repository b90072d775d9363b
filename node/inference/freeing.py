"""Bonds of units whose receipt this node has lost: they are free once the job is closed.

A worker that is bound and cannot show its receipt is not paid. Where the requester is gone, too,
nobody else has a reason to close the job, and the bond would be held for ever. Must not know what
the work was. Source: docs/spec/work.md, "Audits".
"""

import logging
from collections.abc import Callable, Collection
from typing import Final

from prsm.node.inference.commits import commit, wait_time
from prsm.node.inference.engagements import Key
from prsm.node.inference.interface import Chain
from prsm.protocol.errors import PrsmError
from prsm.protocol.transactions.payloads import REFUND, Refund

# Block time between two tries: others who were bound have their time to be paid first.
AGAIN_MS: Final = 60_000
LOOK_MS: Final = 3_600_000

log = logging.getLogger(__name__)


async def free_bonds(chain: Chain, kept: Callable[[], Collection[Key]]) -> None:
    """After their deadlines, close the jobs that hold a bond of ours for a receipt we lost.

    Looks once an hour, too: who lost its whole disk has no ledger when it starts.

    Args:
        chain: our account.
        kept: units whose receipts are here now: they are settled.
    """
    told = set[Key]()
    while True:
        now_ms, here = chain.block_time_ms(), kept()
        left = [key for key in chain.bound() if key not in here and _is_held(chain, key)]
        for job, unit in set(left) - told:
            log.warning("the receipt of unit %d of job %s is not here", unit, job.hex()[:16])
        told = set(left)
        for job in sorted({job for job, _ in left}):
            found = chain.job(job)
            if found is None or now_ms <= found.deadline_ms:
                continue
            try:
                await commit(chain, REFUND, Refund(job))
            except PrsmError as error:
                log.info("job %s is not closed yet: %s", job.hex()[:16], error.what)
        await wait_time(chain, now_ms + (AGAIN_MS if left else LOOK_MS))


def _is_held(chain: Chain, key: Key) -> bool:
    """Does an open unit hold a bond of ours?"""
    job = chain.job(key[0])
    is_open = job is not None and job.is_open and job.verdicts[key[1]] is None
    return job is not None and is_open and chain.bond_of(job, key[1]) > 0
