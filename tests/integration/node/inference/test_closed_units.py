"""A worker that takes no more of a unit has not failed where the reason is ours or the ledger's."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.job import JobRequest
from prsm.node.inference.links import WorkerLost
from prsm.protocol.ed25519 import Signer
from prsm.protocol.ids import PublicKey, Signature
from tests.integration.node.inference.test_generate_worker import opened
from tests.tools.work import MODEL, given_rows, make_cluster

DEADLINE_MS = 30_000


async def test_worker_that_is_asked_after_the_deadline_is_not_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The third is needed when the first two gave no answer; it is too late by then."""
    cluster = make_cluster()
    await cluster.start(nursery)
    for worker in cluster.workers:
        worker.runner.run_s = DEADLINE_MS / 1000 + 10
    jobs = cluster.requester.jobs
    view = await jobs.wait(
        jobs.submit(JobRequest(MODEL, inputs=given_rows(4), deadline_ms=DEADLINE_MS))
    )
    lost = {worker.role: worker.lost for worker in view.workers}
    assert "job_closed: the deadline" in lost["third"]
    slow = {worker.peer for worker in view.workers if worker.role != "third"}
    assert set(jobs._requester.market.bans._until) == slow


async def test_worker_of_a_generation_whose_time_is_over_is_not_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    job = chain.job(seat.job)
    assert job is not None
    found.makers.cluster.world.time_ms = job.deadline_ms
    await found.routes.next(0, found.stage, WorkerLost("too late", cause="job_closed"))
    assert not found.routes._market.bans._until


class LockingSigner:
    """Signs so often; then its wallet is locked."""

    def __init__(self, real: Signer, often: int) -> None:
        self._real, self._left = real, often

    @property
    def public_key(self) -> PublicKey:
        return self._real.public_key

    def sign(self, message: bytes) -> Signature:
        if not self._left:
            raise WalletLocked("wallet default is locked", hint="type: prsm wallet unlock")
        self._left -= 1
        return self._real.sign(message)


@pytest.mark.parametrize("often", [1, 3])
async def test_wallet_locked_while_a_job_runs_ends_it_in_its_own_words(
    often: int, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While units are opened, or between two batches; no worker is left out for it."""
    cluster = make_cluster()
    await cluster.start(nursery)
    requester = cluster.requester
    monkeypatch.setattr(requester.chain, "signer", LockingSigner(requester.chain.signer, often))
    jobs = requester.jobs
    view = await jobs.wait(jobs.submit(JobRequest(MODEL, inputs=given_rows(8))))
    assert view.error is not None
    assert view.error.reason == WalletLocked.reason
    assert not jobs._requester.market.bans._until
