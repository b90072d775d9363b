"""What a proposer puts into a block: evidence first, then the best transactions that can run.

Knows: pools and the ledger's choice among them. Must not know: when a block is wanted.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.pbft.events import Draft
from prsm.node.chain.evidence import EvidencePool
from prsm.node.chain.mempool import Mempool
from prsm.node.clock import Clock
from prsm.protocol.limits import (
    BLOCK_BODY_BYTES_MAX,
    BLOCK_TRANSACTIONS_MAX,
    KIB,
    TRANSACTION_BYTES_MAX,
)
from prsm.protocol.transactions.envelope import transaction_id

# The parent's certificate (2 KiB at 32 signers) and evidence must fit beside the transactions.
INLINE_MAX: Final = 8  # transactions for which a thread would cost more than the choice
EVIDENCE_BYTES: Final = 48 * KIB
TRANSACTIONS_BYTES: Final = BLOCK_BODY_BYTES_MAX - EVIDENCE_BYTES - 16 * KIB
assert TRANSACTION_BYTES_MAX + KIB < TRANSACTIONS_BYTES  # none is too large to stand alone


class Drafts:
    """Chooses from the mempool and from the evidence that waits."""

    def __init__(self, ledger: Ledger, mempool: Mempool, clock: Clock) -> None:
        self._ledger = ledger
        self._mempool = mempool
        self._clock = clock
        self.evidence = EvidencePool(self._convicts)

    @property
    def has_work(self) -> bool:
        """Is there anything that may stand in the next block?"""
        return self._mempool.has_ready or len(self.evidence) > 0

    @property
    def time_ms(self) -> int:
        """The time of a block proposed now."""
        return max(self._ledger.tip.time_ms + 1, self._clock.wall_ms())

    async def draft(self, proposer: int, *, count_max: int = BLOCK_TRANSACTIONS_MAX) -> Draft:
        """What this node would propose now, chosen in a thread.

        Args:
            proposer: its own signer index; a share of a penalty is its operator's.
            count_max: of transactions; fewer than a block may hold while judges are slow.
        """
        ready = self._mempool.ready(count_max)
        choose = self._choice(ready, proposer, count_max)
        return self._settled(ready, await trio.to_thread.run_sync(choose))

    def draft_nowait(self, proposer: int, *, count_max: int) -> Draft | None:
        """The same at once, where that costs less than a thread; None where it costs more."""
        ready = self._mempool.ready(min(count_max, INLINE_MAX + 1))
        if len(ready) > INLINE_MAX or len(self.evidence):
            return None
        return self._settled(ready, self._choice(ready, proposer, count_max)())

    def _choice(self, ready: Sequence[bytes], proposer: int, count_max: int) -> Callable[[], Draft]:
        time_ms, ledger = self.time_ms, self._ledger
        waiting = self.evidence.waiting(EVIDENCE_BYTES)

        def choose() -> Draft:
            evidence: tuple[bytes, ...] = ()
            if waiting:
                evidence = ledger.select_evidence(waiting, time_ms=time_ms, proposer=proposer)
            transactions = ledger.select(
                ready,
                time_ms=time_ms,
                bytes_max=TRANSACTIONS_BYTES,
                count_max=count_max,
            )
            return Draft(transactions=transactions, evidence=evidence, time_ms=time_ms)

        return choose

    def _settled(self, ready: Sequence[bytes], draft: Draft) -> Draft:
        if not draft.transactions:  # the ledger refuses all of them, and would again
            for raw in ready:
                self._mempool.drop(transaction_id(raw))
        return draft

    def _convicts(self, raw: bytes) -> bool:
        return bool(self._ledger.select_evidence((raw,), time_ms=self.time_ms, proposer=0))
