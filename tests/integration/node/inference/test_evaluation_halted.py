"""An evaluation whose model or dataset is halted under way: nobody works on it or scores it."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.ledger.records import HaltRecord, halt_key
from prsm.node.inference.evaluation.requester import EvaluationWish
from prsm.node.inference.interface import TransactionFailed
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.codec import encode
from prsm.protocol.transactions.payloads import RECORD_SCORE
from tests.tools.evaluating import DATASET, ROWS, Lab, make_lab
from tests.tools.work import MODEL, make_manifest

pytestmark = pytest.mark.usefixtures("no_threads")


@pytest.fixture
async def lab(nursery: trio.Nursery, tmp_path: Path) -> Lab:
    return await make_lab(nursery, tmp_path)


def halt(lab: Lab, cid: bytes, *, halted: bool = True) -> None:
    """On every node's ledger, as a vote does."""
    record = HaltRecord(cid=cid, halted=halted, votes=(), reason="by vote")
    lab.cluster.world.state[halt_key(cid)] = encode(record)


@pytest.mark.parametrize("cid", [MODEL, DATASET], ids=["model", "dataset"])
async def test_what_is_halted_is_not_locked_and_no_worker_begins_it(
    cid: bytes, lab: Lab, autojump_clock: MockClock
) -> None:
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    locked, late = [await ours._draw(wish, make_manifest(), ROWS) for _ in range(2)]
    await ours._lock(locked)
    halt(lab, cid)
    with pytest.raises(TransactionFailed, match="MODEL_HALTED"):
        await ours._lock(late)
    for worker, peer in locked.peers.items():
        with pytest.raises(CallRefused) as refused:
            await requester.network.call(peer, ours._opening(locked, worker), channel=Channel.CTL)
        assert refused.value.refusal == "halted"


async def test_no_fee_is_paid_for_a_score_of_what_is_halted(
    lab: Lab, autojump_clock: MockClock
) -> None:
    ours, requester = lab.evaluations, lab.cluster.requester
    wish = EvaluationWish(MODEL, DATASET, deadline_ms=36_000_000)
    round_ = await ours._draw(wish, make_manifest(), ROWS)
    await ours._lock(round_)
    await ours._gather(round_)
    await ours._settle(round_)
    halt(lab, DATASET)
    requester.kill()
    chain = lab.publisher.chain
    for _ in range(20):
        lab.cluster.world.time_ms += 5_000
        await chain.wait_height(chain.height() + 1)
    assert RECORD_SCORE not in {kind for kind, _, _ in lab.cluster.world.executed}
    assert lab.score().recorded == 0
    await trio.sleep(1)  # all have seen the last block
    halt(lab, DATASET, halted=False)  # then one worker records it, in its turn
    await chain.wait_height(chain.height() + 8)
    assert [kind for kind, _, _ in lab.cluster.world.executed].count(RECORD_SCORE) == 1
    assert lab.score().recorded == 1
