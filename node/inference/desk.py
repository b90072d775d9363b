"""What everybody works with who does work for others: one object of a node.

Knows the parts by their ports. Must not know what is done with them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from prsm.consensus.ledger.records import Job
from prsm.node.clock import Clock
from prsm.node.inference.claims import Claim, Claims
from prsm.node.inference.drain import Drain, Holder
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.interface import Chain, JobClosed, Models, Policy
from prsm.node.inference.shards import ShardCache
from prsm.node.net.interface import Network
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import Feed, WorkReceipt

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """What work for others is done with."""

    network: Network
    chain: Chain
    models: Models
    shards: ShardCache
    claims: Claims
    policy: Policy
    verifier: Verifier
    clock: Clock
    evidence: Evidence | None = None  # None: work that nobody compares leaves no trace
    drain: Drain | None = None  # None: this node ends without a word

    @property
    def is_draining(self) -> bool:
        """Is nothing new taken?"""
        return self.drain is not None and self.drain.is_on

    def hold(self, holder: Holder) -> None:
        """Have what somebody holds finished before the node ends."""
        if self.drain is not None:
            self.drain.add(holder)

    def check_unclaimed(self, job: Job, unit: int) -> None:
        """May a unit be begun, or gone on with? What is done after its receipt is in none.

        Raises:
            JobClosed: there is one.
        """
        if self.claims.has(job.job, unit):
            raise JobClosed("the receipt of this unit is made", hint="lock what is left anew")

    async def claim_in_time(self, receipt: WorkReceipt, feeds: Sequence[Feed] = ()) -> Claim:
        """Claim what was done, as `Claims.add`; what fails is tried again at each block.

        A disk that is full or a wallet that is locked may not be so later, and nobody but who
        did the work remembers it.

        Raises:
            PrsmError: of the last try: the unit is over, or its deadline has passed.
        """
        while True:
            try:
                return await self.claims.add(receipt, feeds)
            except PrsmError as error:
                if self.is_over(receipt.job, receipt.unit):
                    raise
                log.warning("unit %d is not claimed yet: %s", receipt.unit, error.what)
            await self.chain.wait_height(self.chain.height() + 1)

    def is_over(self, job_id: bytes, unit: int) -> bool:
        """Is a unit settled or its job closed, or has its deadline passed?"""
        job = self.chain.job(job_id)
        if job is None or not job.is_open or job.verdicts[unit] is not None:
            return True
        return self.chain.block_time_ms() > job.deadline_ms

    def take_on(self, job: Job, unit: int) -> None:
        """May another unit be taken on now?

        Raises:
            DrainingNow: this node takes nothing new.
            NoBond: our pledge does not cover it beside what was taken on before.
        """
        if self.drain is not None:
            self.drain.check()
        self.claims.engagements.check(job, unit)
