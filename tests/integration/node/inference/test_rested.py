"""The network rested for longer than deadlines are: work is taken before its first block, too."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.generate.generation import GenerateRequest
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.job import JobRequest
from prsm.node.inference.quotes import QUOTE_MS, Asked, ask_quote
from prsm.node.inference.serving.service import ServeRequest, Serving
from tests.tools.generating import make_makers, text_of, tokens_of
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster, whole_run
from tests.tools.work_chain import VERIFIER

REST_MS = 660_000
ROWS = 4


async def rested(nursery: trio.Nursery) -> Cluster:
    cluster = make_cluster()
    await cluster.start(nursery)
    cluster.world.rested_ms = REST_MS
    return cluster


@pytest.mark.parametrize("deadline_ms", [30_000, 600_000])
async def test_a_job_has_the_time_it_asked_for(
    deadline_ms: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = await rested(nursery)
    jobs, now_ms = cluster.requester.jobs, cluster.world.time_ms + REST_MS
    view = await jobs.wait(
        jobs.submit(JobRequest(MODEL, inputs=given_rows(ROWS), deadline_ms=deadline_ms))
    )
    assert view.error is None
    assert jobs.result(view.id)[0].data == whole_run(ROWS)
    escrow = cluster.requester.chain.job(view.id)
    assert escrow is not None
    assert deadline_ms <= escrow.deadline_ms - now_ms < deadline_ms + 5_000


async def test_a_request_is_served(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = await rested(nursery)
    cluster.world.rested_ms = 2 * REST_MS  # tabs live longer

    async def resolve(_ref: str) -> bytes:
        await trio.lowlevel.checkpoint()
        return MODEL

    requester = cluster.requester.jobs._requester
    serving = Serving(requester, resolve, notes=MemoryReceipts())
    await nursery.start(serving.run)
    answer = await serving.ask(ServeRequest("adder", given_rows(1)))
    assert answer.outputs[0].data == whole_run(1)


async def test_a_text_is_generated(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    makers = make_makers()
    await makers.start(nursery)
    makers.cluster.world.rested_ms = REST_MS
    text, one = await makers.makers[0].generate(GenerateRequest(MODEL, "Once", 5, stages=2))
    assert text == text_of(tokens_of("Once", 5))
    assert len(one.jobs) == 2


async def test_a_quote_holds_for_its_time_when_the_first_block_comes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = await rested(nursery)
    chain, [worker, *_] = cluster.requester.chain, cluster.workers
    now_ms = cluster.world.time_ms + REST_MS
    quote = await ask_quote(
        *(cluster.requester.network, chain, VERIFIER, worker.network.peer_id),
        Asked(MODEL, 1, ROWS),
    )
    assert quote.valid_until_ms == now_ms + QUOTE_MS
