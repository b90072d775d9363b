"""The end of a tab: receipts collected, what was answered paid, the rest fetched back.

Nobody's consent is needed: where we fail, its workers settle, and after the deadline anybody may
refund. Must not know why a tab is closed. Source: docs/spec/work.md, "Serving".
"""

import logging
from collections.abc import Sequence

import trio

from prsm.node.inference.commits import COMMIT_S, commit, find_lock
from prsm.node.inference.interface import Chain
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.serving.tab import NEEDED, Tab, TabState
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import WorkReceipt, receipt_hash
from prsm.protocol.transactions.payloads import REFUND, SETTLE, Refund, Settle

log = logging.getLogger(__name__)


async def settle(tab: Tab) -> None:
    """Wait for what is under way, collect the receipts, have them paid; then get the rest back.

    A tab that nobody used, or that cannot be settled by us, is refunded after its deadline.
    """
    tab.seal()
    await tab.wait_idle()
    try:
        if tab.answered:
            await _complete(tab)
            await _settle(tab)
    except PrsmError as error:
        log.warning("tab %s is not settled by us: %s", tab.job.hex()[:8], error.what)
        tab.error = error
    for worker in tab.opened:
        tab.link(worker).close()
    if tab.may_be_locked:
        await reclaim(tab.links.chain, tab.job)
    if tab.state is not TabState.SETTLED:
        tab.state = TabState.FAILED if tab.answered else TabState.SETTLED


async def reclaim(chain: Chain, job: bytes) -> None:
    """After its deadline, fetch back what is still locked; returns when nothing is."""
    await find_lock(chain, job)
    while (found := chain.job(job)) is not None and found.is_open:
        if chain.block_time_ms() > found.deadline_ms:
            try:
                await commit(chain, REFUND, Refund(job))
            except PrsmError as error:
                log.warning("tab %s is not refunded yet: %s", job.hex()[:8], error.what)
        await chain.wait_height(chain.height() + 1)


async def _complete(tab: Tab) -> None:
    """Where a worker was lost, have another answer what two must hold."""
    if tab.spec.needed == 1:
        return
    for worker in tab.spec.workers:
        for slot in tab.answered:
            holders = [w for w in tab.given if slot in tab.given[w] and w not in tab.lost]
            if len(holders) < NEEDED and worker not in (*holders, *tab.lost):
                await tab.ask_worker(worker, slot, tab.inputs[slot], {}, [])


async def _settle(tab: Tab) -> None:
    chain = tab.links.chain
    receipts = await _collect(tab)
    if len(receipts) < tab.spec.needed:
        raise WorkerLost("; ".join(tab.lost.values()) or "too few receipts")
    await _wait_bound(tab, receipts)
    await _send(tab, Settle(tab.job, 0, tuple(map(encode, receipts)), ()))
    found = chain.job(tab.job)
    if found is not None and found.verdicts[0] is not None:
        tab.state = TabState.SETTLED


async def _collect(tab: Tab) -> list[WorkReceipt]:
    receipts: list[WorkReceipt] = []
    for worker in tab.given:
        if worker in tab.lost:
            continue
        try:
            with trio.fail_after(tab.rules.finish_s):
                receipts.append(await tab.link(worker).finish())
        except trio.TooSlowError:
            tab.lose(worker, f"no receipt within {tab.rules.finish_s:g} s")
        except WorkerLost as error:
            tab.lose(worker, error.what)
    return receipts


async def _wait_bound(tab: Tab, receipts: Sequence[WorkReceipt]) -> None:
    """Wait until our ledger has the commitments the workers' ledgers have."""
    chain = tab.links.chain
    with trio.move_on_after(COMMIT_S):
        for receipt in receipts:
            while True:
                found = chain.committed(tab.job, 0, receipt.worker)
                if found is not None and found.receipt_hash == receipt_hash(receipt):
                    break
                await chain.wait_height(chain.height() + 1)


async def _send(tab: Tab, payload: Settle) -> None:
    """Settle as soon as the ledger takes it: a receipt of one worker waits for its audit.

    Raises:
        PrsmError: refused until the deadline was there.
    """
    chain = tab.links.chain
    while True:
        job = chain.job(tab.job)
        if job is None or not job.is_open or job.verdicts[0] is not None:
            return  # a worker was faster
        if chain.may_settle(tab.job, 0):
            try:
                await commit(chain, SETTLE, payload)
            except PrsmError:
                if chain.block_time_ms() >= tab.deadline_ms:
                    raise
            else:
                return
        await chain.wait_height(chain.height() + 1)
