"""Whatever is lost, slow or dear: at no block is more gone than the requester allowed."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.job import JobRequest, JobState
from prsm.node.inference.means import Patience
from prsm.node.inference.refusals import PriceOverCap, TooFewPeers
from prsm.protocol.transactions.audits import Pledge
from prsm.protocol.transactions.payloads import PLEDGE
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster, whole_run
from tests.tools.work_chain import FUNDS

ROWS = 32
NODES = 7


async def trouble(cluster: Cluster, dice: random.Random) -> None:
    """Kill, cut off and slow some workers at moments nobody chose."""
    for node in dice.sample(cluster.workers, 3):
        await trio.sleep(dice.random() * 0.3)
        match dice.choice(("kill", "cut", "slow")):
            case "kill":
                node.kill()
            case "cut":
                cluster.hub.cut(cluster.requester.network.peer_id, node.network.peer_id)
            case _:
                node.runner.run_s = 20.0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(24))
async def test_no_block_shows_more_spent_than_was_allowed(
    seed: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    dice = random.Random(seed)
    cluster = make_cluster(NODES, patience=Patience(answer_s=5.0, finish_s=5.0, open_s=10.0))
    for node in cluster.workers:
        node.runner.run_s = 0.2  # so that the trouble meets work
        node.executor._terms = replace(node.executor._terms, price_per_row=dice.randrange(0, 12))
    await cluster.start(nursery)
    for node in cluster.workers:
        cluster.world.submit(node.address, PLEDGE, Pledge(200_000_000))
    await cluster.requester.chain.wait_height(2)
    cap = dice.randrange(0, 8_000)
    asked = JobRequest(
        model=MODEL,
        inputs=given_rows(ROWS),
        stages=dice.choice((None, 1, 2, 3)),
        spread=dice.choice((None, 1, 2)),
        redundancy=dice.choice((0, 1, 2, 3, 5)),
        spares=dice.choice((None, 1, 2)),
        price_cap=cap,
        deadline_ms=100_000,
    )
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, FUNDS - cluster.world.balance(cluster.requester.address))
            await cluster.world.changed.wait()

    nursery.start_soon(watch)
    jobs = cluster.requester.jobs
    job_id = jobs.submit(asked)
    await jobs.wait(job_id, until=JobState.RUNNING)
    if not jobs.get(job_id).error:
        await trouble(cluster, dice)
    view = await jobs.wait(job_id)
    if view.state is JobState.DONE:
        assert jobs.result(job_id)[0].data == whole_run(ROWS)
    elif not view.amount:
        assert isinstance(view.error, PriceOverCap | TooFewPeers)
    await trio.sleep(300)
    assert most <= view.amount <= cap
    paid = FUNDS - cluster.world.balance(cluster.requester.address)
    assert paid <= most
    for lock in (job_id, *view.leases):
        found = cluster.requester.chain.job(lock)
        assert found is None or not found.is_open
