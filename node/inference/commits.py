"""One transaction of ours: submitted, waited for, and its refusal raised; and waits in block time.

Knows: the chain's port. Must not know: what a transaction is for.
"""

from typing import Final

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.interface import Chain, TransactionFailed
from prsm.protocol.codec import Record

COMMIT_S: Final = 60.0
LOCKED_WITHIN_MS: Final = 600_000  # block time after its sending in which a block may take a lock


class NoBlock(TransactionFailed):
    """No block took a transaction while it was waited for; one still may, until it expires."""


async def commit(chain: Chain, kind: int, payload: Record) -> int:
    """Submit and wait; the height of the block.

    Raises:
        LocalError: not accepted.
        TransactionFailed: executed with another code than done.
        NoBlock: in no block in time.
    """
    with trio.move_on_after(COMMIT_S):
        result = await chain.wait_committed(await chain.submit(kind, payload))
        if not result.ok:
            name = type(payload).__name__.lower()
            raise TransactionFailed(f"the ledger refused the {name}: {result.code}")
        return result.height
    raise NoBlock(f"no block took the transaction within {COMMIT_S:g} s")


async def find_lock(chain: Chain, job: bytes) -> Job | None:
    """The escrow of a lock that may be on its way: once it is there, or no block can take it."""
    until_ms = chain.deadline_ms(LOCKED_WITHIN_MS)
    while (found := chain.job(job)) is None and chain.block_time_ms() <= until_ms:
        await chain.wait_height(chain.height() + 1)
    return found


async def wait_time(chain: Chain, time_ms: int) -> None:
    """Return once the last block is of that time or later."""
    await trio.lowlevel.checkpoint()
    while chain.block_time_ms() < time_ms:
        await chain.wait_height(chain.height() + 1)
