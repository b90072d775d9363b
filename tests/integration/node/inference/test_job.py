"""A requester and three workers on the memory network, settled by the ledger's own rules."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.ledger.records import JobStatus
from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.jobs import NotFinished
from prsm.node.inference.pipeline import NoQuorumOfResults, Patience
from prsm.node.inference.planner import NoCutForK, PriceOverCap, RuntimeMismatch, TooFewPeers
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.genesis import TREASURY
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.receipts import WorkKind
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import SETTLE
from tests.tools.work import MODEL, Cluster, corrupt, given_rows, make_cluster, tensor, whole_run
from tests.tools.work_chain import FUNDS

ROWS = 30
PRICE = 10
RESERVE = 3 * PRICE * ROWS  # of one stage


def request(stages: int = 3, **changes: object) -> JobRequest:
    asked = {"model": MODEL, "inputs": given_rows(ROWS), "stages": stages, **changes}
    return JobRequest(**asked)  # type: ignore[arg-type]  # keyword by keyword in each test


async def finish(cluster: Cluster, asked: JobRequest) -> JobView:
    jobs = cluster.requester.jobs
    with trio.fail_after(2000):
        return await jobs.wait(jobs.submit(asked))


def paid(view: JobView) -> dict[bytes, int]:
    """Micro-FTNS by worker, over all stages."""
    amounts: dict[bytes, int] = {}
    for worker in view.workers:
        amounts[worker.worker] = amounts.get(worker.worker, 0) + (worker.paid or 0)
    return amounts


def answer(cluster: Cluster, view: JobView) -> bytes:
    outputs = cluster.requester.jobs.result(view.id)
    assert [t.head.name for t in outputs] == ["y"]
    return outputs[0].data


@pytest.mark.parametrize("stages", [1, 2, 3])
async def test_honest_workers_agree_and_are_paid(
    stages: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    view = await finish(cluster, request(stages))
    assert (view.state, view.error, view.unsettled) == (JobState.DONE, None, {})
    assert answer(cluster, view) == whole_run(ROWS)
    assert (view.rows_done, view.rows_total) == (ROWS, ROWS)
    assert sorted(view.verdicts) == list(range(stages))
    spent = stages * 2 * PRICE * ROWS
    assert view.amount == stages * RESERVE
    assert cluster.world.balance(cluster.requester.address) == FUNDS - spent
    assert sum(paid(view).values()) == spent * 95 // 100
    assert cluster.world.balance(TREASURY) == spent * 5 // 100
    job = cluster.requester.chain.job(view.id)
    assert job is not None
    assert job.status is JobStatus.SETTLED
    assert not any(worker.lost or worker.outvoted for worker in view.workers)
    assert all(not worker.batches for worker in view.workers if worker.role == "third")


async def test_job_is_done_where_a_worker_has_room_for_exactly_the_inputs_of_its_credit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """As with the largest batches: outputs are no reason to refuse what was computed."""
    cluster = make_cluster()
    width, rows = 512, 4
    for node in cluster.workers:
        node.runner.run_s = 1.0
        terms = node.executor._terms
        terms.bytes_per_peer_max = terms.credit * rows * width * 2
    await cluster.start(nursery)
    view = await finish(cluster, request(1, inputs=given_rows(ROWS, width=width)))
    assert (view.state, view.error) == (JobState.DONE, None)
    assert not any(worker.lost for worker in view.workers)


async def test_load_is_even(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    view = await finish(cluster, request(3))
    assert set(paid(view).values()) == {2 * PRICE * ROWS * 95 // 100}


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_liar_is_outvoted_and_not_paid(
    place: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    liar = cluster.workers[place]
    liar.runner.hook = corrupt
    await cluster.start(nursery)
    view = await finish(cluster, request(3))
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    assert answer(cluster, view) == whole_run(ROWS)
    assert paid(view)[liar.address] == 0
    assert {w.worker for w in view.workers if w.outvoted} == {liar.address}
    # The liar is primary of one stage and replica of another; there the third decides.
    disputed = [unit for unit, disputes in view.disputes.items() if disputes]
    assert len(disputed) == 2
    for unit in disputed:
        assert len(view.verdicts[unit].opinions) == 3
        wrong = {o.worker for o in view.verdicts[unit].opinions if o.wrong}
        assert wrong == {liar.address}
    spent = 3 * 2 * PRICE * ROWS
    assert cluster.world.balance(cluster.requester.address) == FUNDS - spent


async def test_liar_on_one_batch_costs_the_third_one_batch(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    liar = cluster.workers[0]

    def once(name: str, run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return corrupt(name, run, outputs) if run == 3 else outputs

    liar.runner.hook = once
    await cluster.start(nursery)
    view = await finish(cluster, request(1))
    assert answer(cluster, view) == whole_run(ROWS)
    third = next(w for w in view.workers if w.role == "third")
    assert (third.batches, third.rows) == (1, 4)
    assert third.paid == 4 * PRICE * 95 // 100
    assert paid(view)[liar.address] == 0


async def test_lost_worker_is_replaced_and_the_bytes_are_the_same(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The worker goes in mid-job; the third redoes its batches, so two full receipts exist."""
    cluster = make_cluster()
    victim = cluster.workers[0]
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    job_id = jobs.submit(request(3))
    while jobs.get(job_id).rows_done < 8:  # noqa: ASYNC110 - a mock clock, nothing to wait on
        await trio.sleep(0.005)
    victim.kill()
    view = await jobs.wait(job_id)
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    assert answer(cluster, view) == whole_run(ROWS)
    assert paid(view)[victim.address] == 0
    lost = [w for w in view.workers if w.worker == victim.address and w.role != "third"]
    assert [bool(w.lost) for w in lost] == [True, True]
    for unit in {w.unit for w in lost}:
        third = next(w for w in view.workers if (w.unit, w.role) == (unit, "third"))
        assert third.rows == ROWS


async def test_worker_that_shows_no_receipt_is_replaced(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It answers all batches and goes before it commits."""
    cluster = make_cluster()
    victim = cluster.workers[0]
    victim.chain.mutes.update(range(20))
    await cluster.start(nursery)
    view = await finish(cluster, request(1))
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    third = next(w for w in view.workers if w.role == "third")
    assert third.rows == ROWS
    assert paid(view)[victim.address] == 0


async def test_three_different_answers_end_the_job_and_the_escrow_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    for place, worker in enumerate(cluster.workers):
        worker.runner.hook = _liar(place)
    await cluster.start(nursery)
    view = await finish(cluster, request(1, deadline_ms=60_000))
    assert view.state is JobState.FAILED
    assert isinstance(view.error, NoQuorumOfResults)
    with pytest.raises(NoQuorumOfResults):
        cluster.requester.jobs.result(view.id)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - RESERVE
    await trio.sleep(120)
    job = cluster.requester.chain.job(view.id)
    assert job is not None
    assert job.status is JobStatus.REFUNDED
    assert cluster.world.balance(cluster.requester.address) == FUNDS


def _liar(place: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a Hook
    def lie(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first = outputs[0]
        return (Tensor(first.head, bytes([200 + place]) + first.data[1:]),)

    return lie


async def test_two_that_disagree_without_a_third_are_no_quorum(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    cluster.workers[1].runner.hook = corrupt
    await cluster.start(nursery)
    view = await finish(cluster, request(1, redundancy=2))
    assert isinstance(view.error, NoQuorumOfResults)


async def test_worker_of_another_class_is_left_out_and_not_blamed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    other = cluster.workers[1]
    other.runner.flavour = b"another processor"
    other.runner.hook = corrupt  # its bits differ
    await cluster.start(nursery)
    view = await finish(cluster, request(1))
    assert answer(cluster, view) == whole_run(ROWS)
    [left_out] = [w for w in view.workers if w.worker == other.address]
    assert "class_missing" in left_out.lost
    assert (left_out.batches, left_out.outvoted) == (0, False)
    assert other.address not in {o.worker for o in view.verdicts[0].opinions}


async def test_slow_worker_is_given_up(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = make_cluster(patience=Patience(answer_s=5.0, hedge_s=100.0))
    cluster.workers[0].runner.run_s = 60.0
    await cluster.start(nursery)
    view = await finish(cluster, request(1))
    assert view.state is JobState.DONE
    assert "no answer within 5 s" in view.workers[0].lost
    assert answer(cluster, view) == whole_run(ROWS)


async def test_batches_of_a_slow_worker_go_to_the_next_one_and_it_is_not_lost(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    cluster.workers[0].runner.run_s = 50.0
    await cluster.start(nursery)
    began = trio.current_time()
    view = await finish(cluster, request(1))
    assert trio.current_time() - began < 40
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    assert answer(cluster, view) == whole_run(ROWS)
    assert [worker.lost for worker in view.workers] == ["", "", ""]
    assert [worker.rows for worker in view.workers] == [0, ROWS, ROWS]


async def test_texts_come_back_in_their_order(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    texts = ("a", "bbbb", "cc", "ddddd", "eee", "f", "gg")
    view = await finish(cluster, request(2, inputs=(), texts=texts, rows_per_batch=2))
    assert view.batches == ((3, 1), (4, 2), (6, 0), (5,))
    due = b"".join(bytes((b + 6) % 251 for b in text.encode().ljust(5)) for text in texts)
    assert answer(cluster, view) == due


async def test_jobs_run_side_by_side_and_a_failing_one_is_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    ids = [jobs.submit(request(stages)) for stages in (3, 5, 2)]
    views = [await jobs.wait(job_id) for job_id in ids]
    assert [view.state for view in views] == [JobState.DONE, JobState.FAILED, JobState.DONE]
    assert isinstance(views[1].error, NoCutForK)
    assert answer(cluster, views[0]) == answer(cluster, views[2]) == whole_run(ROWS)
    assert [view.id for view in jobs.list()] == ids[::-1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stages": 4}, NoCutForK),
        ({"price_cap": RESERVE - 1, "stages": 1}, PriceOverCap),
        ({"kind": WorkKind.EVALUATE}, Unsupported),
        ({"inputs": (tensor("x", [b"abc"]),)}, InputMismatch),
        ({"inputs": (*given_rows(2), tensor("z", [b"a", b"b"]))}, InputMismatch),
        ({"inputs": ()}, InputMismatch),
        ({"rows_per_batch": 0}, InputMismatch),
        ({"texts": ("a",)}, InputMismatch),
    ],
)
async def test_refused_before_money_is_locked(
    changes: dict[str, object],
    expected: type[PrsmError],
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    view = await finish(cluster, request(**changes))  # type: ignore[arg-type]  # see request
    assert isinstance(view.error, expected)
    assert view.state is JobState.FAILED
    assert cluster.world.balance(cluster.requester.address) == FUNDS
    with pytest.raises(expected):
        cluster.requester.jobs.result(view.id)


async def test_too_few_or_foreign_workers_are_named(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(3)
    await cluster.start(nursery)
    assert isinstance((await finish(cluster, request(1))).error, TooFewPeers)
    assert (await finish(cluster, request(1, redundancy=2))).error is None
    foreign = make_cluster()
    foreign.workers[2].runner.runtime = "adder 2"
    await foreign.start(nursery)
    assert isinstance((await finish(foreign, request(1))).error, RuntimeMismatch)


async def test_requester_whose_ledger_trails_settles_all_the_same(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Receipts arrive before the block with their commitments: the settlement waits for it."""
    cluster = make_cluster(settle_after_ms=600_000)
    cluster.requester.chain.lag = 2
    cluster.world.heartbeat_s = 0.5
    await cluster.start(nursery)
    view = await finish(cluster, request(2))
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    assert sorted(view.verdicts) == [0, 1]


async def test_workers_settle_when_the_requester_does_not(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(settle_after_ms=20_000)
    cluster.requester.chain.mutes.add(SETTLE)
    await cluster.start(nursery)
    view = await finish(cluster, request(1))
    assert answer(cluster, view) == whole_run(ROWS)
    job = cluster.requester.chain.job(view.id)
    assert job is not None
    assert job.status is JobStatus.SETTLED
    assert cluster.world.balance(cluster.workers[0].address) == FUNDS + PRICE * ROWS * 95 // 100


async def test_cancelled_job_says_so_and_its_runs_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The children are free for the next job long before the runs given up would have ended."""
    cluster = make_cluster()
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    for worker in cluster.workers:
        worker.runner.run_s = 50.0
    job_id = jobs.submit(request(3))
    with pytest.raises(NotFinished):
        jobs.result(job_id)
    await jobs.wait(job_id, until=JobState.RUNNING)
    await trio.sleep(5)
    jobs.cancel(job_id)
    view = await jobs.wait(job_id)
    assert isinstance(view.error, NotFinished)
    for worker in cluster.workers:
        worker.runner.run_s = 0.01
    with trio.fail_after(20):
        assert (await jobs.wait(jobs.submit(request(3)))).error is None


async def test_only_named_accounts_work_on_a_job_of_a_chosen_id(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(size=5)
    await cluster.start(nursery)
    only = tuple(node.address for node in cluster.workers[1:])
    jobs = cluster.requester.jobs
    request = JobRequest(MODEL, inputs=given_rows(4), only=only, job=b"j" * 32)
    assert jobs.submit(request) == b"j" * 32
    view = await jobs.wait(b"j" * 32)
    assert view.error is None
    assert {worker.worker for worker in view.workers} == set(only)
    too_few = jobs.submit(JobRequest(MODEL, inputs=given_rows(4), only=only[:2]))
    error = (await jobs.wait(too_few)).error
    assert error is not None
    assert error.reason == "too_few_peers"
