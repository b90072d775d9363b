"""Receipts of a generation's stages, their settlement, and the return of what was not used.

A unit of one worker is settled once its receipt is on the ledger and the time in which it may be
drawn for an audit is over; until then, and for what nobody did, the escrow waits. Must not know
tokens.
"""

import logging
from collections.abc import Sequence
from typing import Final

import trio

from prsm.node.inference.commits import COMMIT_S, commit, find_lock, wait_time
from prsm.node.inference.generate.course import Patience
from prsm.node.inference.generate.stage import RemoteStage
from prsm.node.inference.interface import Chain, ReceiptStore
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import Feed, WorkReceipt, receipt_hash, sign_feed
from prsm.protocol.transactions.payloads import FEEDS_MAX, REFUND, SETTLE, Refund, Settle

# Block time between two tries; a paid unit waits for its draw, and if drawn for its audit.
AGAIN_MS: Final = 5_000

log = logging.getLogger(__name__)


async def collect(stages: Sequence[RemoteStage], patience: Patience) -> list[WorkReceipt]:
    """Ask for the receipts of all stages at once; a worker that shows none settles by itself."""
    found: list[WorkReceipt] = []

    async def ask(stage: RemoteStage) -> None:
        try:
            with trio.move_on_after(patience.finish_s):
                receipt = await stage.finish()
                if receipt is not None:
                    found.append(receipt)
                return
            log.warning("%s shows no receipt in time", stage.name)
        except PrsmError as error:  # a locked wallet of ours, too: the text is there all the same
            log.warning("%s shows no receipt: %s", stage.name, error.what)

    async with trio.open_nursery() as nursery:
        for stage in stages:
            nursery.start_soon(ask, stage)
    return found


def by_unit(receipt: WorkReceipt) -> tuple[bytes, int]:
    """In which order receipts are shown."""
    return receipt.job, receipt.unit


async def settle(chain: Chain, receipt: WorkReceipt, beside: Sequence[WorkReceipt]) -> bool:
    """Settle the unit of one receipt; False if the ledger does not take it (yet).

    Args:
        chain: the ledger, and our own account.
        receipt: of one worker.
        beside: of the other stages, too.
    """
    with trio.move_on_after(COMMIT_S):
        while True:
            found = chain.committed(receipt.job, receipt.unit, receipt.worker)
            if found is not None and found.receipt_hash == receipt_hash(receipt):
                break
            await chain.wait_height(chain.height() + 1)
    try:
        feeds = _fed_apart(chain, receipt, beside)
        await commit(chain, SETTLE, Settle(receipt.job, receipt.unit, (encode(receipt),), feeds))
    except PrsmError as error:
        log.info("unit %d is not settled yet: %s", receipt.unit, error.what)
        return False
    return True


def _fed_apart(
    chain: Chain, receipt: WorkReceipt, beside: Sequence[WorkReceipt]
) -> tuple[Feed, ...]:
    """Our word for batches that a stage next to it has with other rows.

    A worker that went in the middle of a batch has a short one; the other stages did it whole. By
    the roots alone one of them would not have read what the other wrote.
    """
    near = [
        each for each in beside if each.job == receipt.job and abs(each.stage - receipt.stage) == 1
    ]
    rows = {(batch.index, batch.rows) for each in near for batch in each.batches}
    indexes = {index for index, _ in rows}
    found = []
    for batch in receipt.batches:
        if batch.index in indexes and (batch.index, batch.rows) not in rows:
            roots = batch.input_root, batch.side_root
            feed = Feed(receipt.job, receipt.unit, batch.index, *roots, bytes(64))
            found.append(sign_feed(feed, chain.signer, chain_id=chain.chain_id))
    return tuple(found[:FEEDS_MAX])


async def reclaim(chain: Chain, job: bytes, notes: ReceiptStore) -> None:
    """After the deadline, fetch back what is still locked, then forget the job.

    Anybody else may do so, too. A lock may still be on its way.
    """
    await find_lock(chain, job)
    while (found := chain.job(job)) is not None and found.is_open:
        await wait_time(chain, found.deadline_ms + 1)
        tried_ms = chain.block_time_ms()
        try:
            await commit(chain, REFUND, Refund(job))
        except PrsmError as error:  # a bound worker may still settle: the escrow waits for it
            log.info("a route is not refunded yet: %s", error.what)
            await wait_time(chain, tried_ms + AGAIN_MS)
    try:
        await notes.drop(job, 0)
    except PrsmError as error:  # looked at again after the next start
        log.warning("the note of a route stays: %s", error.what)
