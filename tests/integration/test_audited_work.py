"""Whole nodes: work that nobody compares is drawn, computed again and judged; liars alone lose."""

from pathlib import Path

import pytest
import trio

from prsm.consensus.ledger.records import Job, JobStatus
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Parameters
from prsm.protocol.transactions.audits import Dispute
from prsm.protocol.transactions.payloads import DISPUTE
from tests.tools.labs import make_cluster
from tests.tools.shops import BOND, Alone, Shop, open_shops
from tests.tools.work import corrupt, honest

LIED_FOR, WORKED_FOR = b"l" * 32, b"w" * 32


async def pledged(shops: list[Shop]) -> None:
    """Return once every node's ledger has every node's bond."""
    for shop in shops:
        view = shop.room.parts.driver.ledger.view
        while any(view.pledge(other.address).amount < BOND for other in shops):
            await shop.next_block()


async def closed(shop: Shop, job: bytes) -> Job:
    """A job once it has its verdict."""
    while (found := shop.room.account.job(job)) is None or found.is_open:
        await shop.next_block()
    return found


@pytest.mark.slow
async def test_liar_is_drawn_judged_and_slashed_and_an_honest_worker_is_paid(
    tmp_path: Path,
) -> None:
    """Goal: one of one is safe to pay for. Method: four validators and a liar, all work is drawn.

    A batch of the liar's is computed again by another node, its receipt makes a case, the operators
    find it different: it is paid nothing and loses its bond, the requester has its escrow back. The
    honest worker's requester disputes its result: it is paid, and gets the deposit.
    """
    parameters = Parameters(tree_bits=6, heartbeat_block_ms=200, audit_bps=10_000)
    cluster = make_cluster(tmp_path, others=1, parameters=parameters)
    with trio.fail_after(120):
        async with open_shops(cluster, [honest] * 4 + [corrupt]) as shops:
            requester, worker, _, _, liar = shops
            await pledged(shops)
            view = requester.room.parts.driver.ledger.view
            lied = Alone(LIED_FOR, requester, liar)
            wealth = view.account(liar.address) + view.pledge(liar.address).amount
            await lied.run()
            job = await closed(requester, LIED_FOR)
            # Its bond of twenty times the price; beside that only the fees of a few transactions.
            lost = wealth - view.account(liar.address) - view.pledge(liar.address).amount
            assert lost >= 20 * lied.price
            assert job.verdicts[0] is not None
            assert (job.status, job.locked) == (JobStatus.SETTLED, 0)
            assert job.verdicts[0].returned == lied.price
            assert [opinion.paid for opinion in job.verdicts[0].opinions] == [0]
            assert [(fault.job, fault.unit) for fault in view.faults(liar.address)] == [
                (LIED_FOR, 0)
            ]
            assert view.standing(liar.address).faults == 1

            worked = Alone(WORKED_FOR, requester, worker)
            receipt = await worked.run()
            while (found := view.sampling(WORKED_FOR, 0)) is None or found.draw is None:
                await requester.next_block()
            dispute = Dispute(WORKED_FOR, 0, 0, encode(receipt))
            assert await requester.room.send(DISPUTE, dispute) == "done"
            before = view.account(worker.address)
            job = await closed(requester, WORKED_FOR)
            assert job.verdicts[0] is not None
            [opinion] = job.verdicts[0].opinions
            assert (opinion.wrong, opinion.paid) == (0, worked.price * 95 // 100)
            gained = view.account(worker.address) - before
            assert gained >= opinion.paid + parameters.case_deposit // 2
            assert view.faults(worker.address) == []
            assert view.pledge(worker.address).held == 0
            assert view.supply().minted == cluster.genesis.minted
