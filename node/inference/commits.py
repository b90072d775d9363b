"""One transaction of ours: submitted, waited for, and its refusal raised; and waits in block time.

Knows: the chain's port. Must not know: what a transaction is for.
"""

from typing import Final

import trio

from prsm.node.inference.interface import Chain, TransactionFailed
from prsm.protocol.codec import Record

COMMIT_S: Final = 60.0
# Block time in which a lock that was on its way when its node ended is in a block, or lost.
LOCKED_WITHIN_MS: Final = 60_000


async def commit(chain: Chain, kind: int, payload: Record) -> int:
    """Submit and wait; the height of the block.

    Raises:
        LocalError: not accepted.
        TransactionFailed: executed with another code than done, or in no block in time.
    """
    with trio.move_on_after(COMMIT_S):
        result = await chain.wait_committed(await chain.submit(kind, payload))
        if not result.ok:
            name = type(payload).__name__.lower()
            raise TransactionFailed(f"the ledger refused the {name}: {result.code}")
        return result.height
    raise TransactionFailed(f"no block took the transaction within {COMMIT_S:g} s")


async def wait_time(chain: Chain, time_ms: int) -> None:
    """Return once the last block is of that time or later."""
    await trio.lowlevel.checkpoint()
    while chain.block_time_ms() < time_ms:
        await chain.wait_height(chain.height() + 1)
