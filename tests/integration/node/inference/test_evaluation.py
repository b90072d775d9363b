"""Evaluation on a network in memory: drawn workers, a score that is proven, liars, the dead."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.ledger.records import JobStatus
from prsm.node.inference.commits import NoBlock
from prsm.node.inference.evaluation.requester import (
    Evaluations,
    EvaluationWish,
    NothingEvaluated,
)
from prsm.node.inference.interface import TransactionFailed
from prsm.node.inference.planner import PriceOverCap, TooFewPeers
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.codec import Record
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.messages.evaluation import AskEvaluated
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import (
    LOCK,
)
from tests.tools.evaluating import DATASET, OTHER, PRICE, ROWS, Lab, drawn, make_lab
from tests.tools.work import (
    MODEL,
    AdderRunner,
    FullDisk,
    Node,
    corrupt,
    make_manifest,
)
from tests.tools.work_chain import FUNDS, VERIFIER

pytestmark = pytest.mark.usefixtures("no_threads")


@pytest.fixture
async def lab(nursery: trio.Nursery, tmp_path: Path) -> Lab:
    return await make_lab(nursery, tmp_path)


def runner_of(node: Node) -> AdderRunner:
    runner = node.shards._runner
    assert isinstance(runner, AdderRunner)
    return runner


async def test_drawn_workers_agree_and_the_ledger_has_the_score(
    lab: Lab, autojump_clock: MockClock
) -> None:
    found = await lab.evaluate()
    assert (found.correct, found.total) == (sum(ROWS) - 0 - 1 - 2, sum(ROWS))
    score = lab.score()
    assert (score.correct, score.total, score.draws, score.recorded) == (8, 11, 1, 1)
    assert (score.job, score.height) == (found.job, found.height)
    job = lab.cluster.requester.chain.job(found.job)
    assert job is not None
    assert job.status is JobStatus.SETTLED
    workers = set(job.units[0].workers)
    assert len(workers) == 3
    assert set(found.workers) == workers
    assert not workers & {lab.cluster.requester.address, lab.publisher.address}
    assert workers == {node.address for node in lab.drawn(found.job)[:3]}
    spent = FUNDS - lab.cluster.world.balance(lab.cluster.requester.address)
    assert spent == 3 * PRICE * sum(ROWS)
    again = await lab.evaluate()
    assert again.job != found.job
    assert (lab.score().draws, lab.score().recorded, lab.score().correct) == (2, 2, 8)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_liar_among_those_drawn_changes_nothing_and_is_not_paid(
    place: int, lab: Lab, autojump_clock: MockClock
) -> None:
    """Which of them lies is known after the draw, so all may, once they are the one."""
    first = (1).to_bytes(32, "big")

    def hook(node: Node) -> None:
        def lie(name: str, run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            drawn = lab.drawn(first)
            return corrupt(name, run, outputs) if node is drawn[place] else outputs

        runner_of(node).hook = lie

    for node in lab.cluster.nodes:
        hook(node)
    found = await lab.evaluate()
    assert (found.correct, found.total) == (8, 11)
    liar = lab.drawn(first)[place]
    assert liar.address not in found.workers
    assert len(found.workers) == 2
    assert lab.cluster.world.balance(liar.address) == FUNDS


async def test_receipts_that_find_no_room_are_made_when_there_is_some(
    lab: Lab, autojump_clock: MockClock
) -> None:
    for node in lab.cluster.nodes:
        node.claims._store = FullDisk(tries=1)
    found = await lab.evaluate()
    assert (found.correct, found.total, len(found.workers)) == (8, 11, 3)


async def test_a_drawn_worker_that_is_away_is_replaced_by_the_next(
    lab: Lab, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first = (1).to_bytes(32, "big")

    async def kill_the_first() -> None:
        while not drawn(lab.cluster.requester, first):
            await lab.cluster.world.changed.wait()
        lab.drawn(first)[0].kill()

    nursery.start_soon(kill_the_first)
    found = await lab.evaluate()
    assert (found.correct, found.total) == (8, 11)
    assert lab.drawn(first)[0].address not in found.workers


async def test_what_cannot_be_evaluated_is_refused_before_money_moves(
    lab: Lab, autojump_clock: MockClock
) -> None:
    cases: list[tuple[bytes, int | None, type[PrsmError]]] = [
        (MODEL, None, Unsupported),  # no dataset
        (OTHER, None, InputMismatch),
        (b"\x01\x55\x12\x20" + b"?" * 32, None, WorkerFailed),
        (DATASET, 3 * PRICE * sum(ROWS) - 1, PriceOverCap),
    ]
    for dataset, cap, fault in cases:
        with pytest.raises(fault) as caught:
            await lab.evaluate(dataset, cap=cap)
        assert caught.value.spent == (0 if cap else None)  # 0: the draw's fee
    for node in lab.cluster.nodes[1:]:
        node.kill()
    with pytest.raises(TooFewPeers) as few:
        await lab.evaluate()
    assert few.value.spent == 0
    assert lab.cluster.world.balance(lab.cluster.requester.address) == FUNDS
    assert lab.score().recorded == 0
    assert lab.score().draws == 2


async def test_a_lock_that_is_refused_cost_nothing(lab: Lab, autojump_clock: MockClock) -> None:
    """What a tenant may spend yet is counted by that."""
    for node in lab.cluster.nodes:
        node.executor._terms.price_per_row = FUNDS
    with pytest.raises(TransactionFailed) as refused:
        await lab.evaluate()
    assert (type(refused.value), refused.value.spent) == (TransactionFailed, 0)


@pytest.mark.parametrize("is_settled", [True, False])
async def test_workers_record_what_the_requester_does_not(
    is_settled: bool, lab: Lab, autojump_clock: MockClock
) -> None:
    """It ended after it had paid, or before; or it does not like what was found."""
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    round_ = await ours._draw(wish, make_manifest(), ROWS)
    await ours._lock(round_)
    await ours._gather(round_)
    if is_settled:
        await ours._settle(round_)
    requester.kill()
    chain = lab.publisher.chain
    while not lab.score().recorded:
        lab.cluster.world.time_ms += 5_000
        await chain.wait_height(chain.height() + 1)
    score = lab.score()
    assert (score.correct, score.total, score.recorded, score.job) == (8, 11, 1, round_.job)
    height = chain.height()
    lab.cluster.world.time_ms += 60_000
    await chain.wait_height(height + 3)
    assert lab.score() == score, "once"
    assert (await ours._record(round_)).correct == 8, "a requester that comes back is not told off"


async def test_three_who_differ_decide_nothing(lab: Lab, autojump_clock: MockClock) -> None:
    def differ(node: Node) -> None:
        def lie(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (first,) = outputs
            return (Tensor(first.head, bytes([node.index]) + first.data[1:]),)

        runner_of(node).hook = lie

    for node in lab.cluster.nodes:
        differ(node)
    with pytest.raises(NothingEvaluated) as caught:
        await lab.evaluate()
    assert caught.value.spent == 3 * PRICE * sum(ROWS)
    assert lab.score().recorded == 0


async def test_nothing_is_shown_to_strangers_or_before_others_are_bound(
    lab: Lab, autojump_clock: MockClock
) -> None:
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    round_ = await ours._draw(wish, make_manifest(), ROWS)
    await ours._lock(round_)
    (worker, peer), *_ = round_.peers.items()
    opening = ours._opening(round_, worker)
    ask = AskEvaluated(round_.job, 0)

    async def refusal(node: Node, message: Record) -> str:
        with pytest.raises(CallRefused) as refused:
            await node.network.call(peer, message, channel=Channel.CTL)
        return refused.value.refusal

    stranger = lab.publisher
    assert await refusal(requester, ask) == "unknown_job"
    assert await refusal(stranger, opening) == "bad_signature"
    elsewhere = msgspec.structs.replace(opening, worker=stranger.address)
    assert await refusal(requester, elsewhere) == "bad_signature"
    await requester.network.call(peer, opening, channel=Channel.CTL)
    while requester.chain.committed(round_.job, 0, worker) is None:
        await requester.chain.wait_height(requester.chain.height() + 1)
    assert await refusal(stranger, ask) == "unknown_job"
    assert await refusal(requester, ask) == "unit_incomplete"
    lab.cluster.world.time_ms += 40_000  # the others are late, and fewer than must agree are bound
    assert await refusal(requester, ask) == "unit_incomplete"


async def test_a_lock_that_nobody_was_drawn_for_is_not_worked_on(
    lab: Lab, autojump_clock: MockClock
) -> None:
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    drawn = await ours._draw(wish, make_manifest(), ROWS)
    peers = {
        node.address: node.network.peer_id for node in (lab.publisher, *lab.cluster.nodes[1:3])
    }
    picked = msgspec.structs.replace(drawn.unit, workers=tuple(peers))
    for job, unit, word in (
        (b"j" * 32, drawn.unit, "unknown_job"),  # locked without a draw
        (drawn.job, picked, "not_named"),  # a draw, and workers of our choice
    ):
        round_ = replace(drawn, job=job, unit=unit)
        await ours._lock(round_)
        worker = unit.workers[0]
        peer = (drawn.peers | peers)[worker]
        opening = ours._opening(round_, worker)
        with pytest.raises(CallRefused) as refused:
            await requester.network.call(peer, opening, channel=Channel.CTL)
        assert refused.value.refusal == word


async def test_what_an_earlier_process_locked_comes_back(
    lab: Lab, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The process ended after the lock: the next one knows of it from the ledger alone."""
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    round_ = await ours._draw(wish, make_manifest(), ROWS)
    await ours._lock(round_)
    assert lab.cluster.world.balance(requester.address) < FUNDS
    again = Evaluations(requester.network, requester.chain, ours._models, VERIFIER)
    await nursery.start(again.run)
    lab.cluster.world.time_ms += 36_000_001
    while (job := requester.chain.job(round_.job)) is None or job.is_open:
        await requester.chain.wait_height(requester.chain.height() + 1)
    assert job.status is JobStatus.REFUNDED
    assert lab.cluster.world.balance(requester.address) == FUNDS


async def test_a_late_lock_comes_back(lab: Lab, autojump_clock: MockClock) -> None:
    chain = lab.cluster.requester.chain
    (world := chain.world).late.add(LOCK)
    with pytest.raises(NoBlock) as unknown:
        await lab.evaluate()
    assert unknown.value.spent == 3 * PRICE * sum(ROWS)  # it may be
    world.late.clear()
    await chain.wait_height(world.height + 1)
    world.time_ms += 36_000_001
    await chain.wait_height(world.height + 2)
    assert [result.ok for kind, _, result in world.executed if kind == LOCK] == [True]
    assert world.balance(chain.address) == FUNDS
