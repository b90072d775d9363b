"""Whoever is slow to give what a check needs neither prevents it nor holds its place."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.audits import CHECKS_MAX
from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.inquiry import BYTES_PER_S_MIN, CHUNK_S, Unserved
from prsm.node.inference.transfer import count_chunks
from prsm.node.net.interface import Answer, Incoming
from prsm.protocol.errors import RemoteError
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.audit import AskInputs, InputChunk
from prsm.protocol.messages.work import BATCH_BYTES_MAX
from prsm.protocol.tensors import Dtype, TensorHead
from prsm.protocol.transactions.audits import Finding
from tests.tools.checking import CHECKER, REQUESTER, WORKER, Scene, shard_of
from tests.tools.court import boundary
from tests.tools.work import MODEL, corrupt, make_cluster

pytestmark = pytest.mark.usefixtures("no_threads")


@pytest.fixture
async def scene(nursery: trio.Nursery, tmp_path: Path) -> Scene:
    made = Scene(make_cluster(), tmp_path)
    await made.start(nursery)
    return made


@dataclass
class Drip:
    """A peer that announces a whole wire's worth, and gives each chunk just in time."""

    asked: int = 0

    async def __call__(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, AskInputs)
        self.asked += 1
        await trio.sleep(9.9)
        shape = (4, BATCH_BYTES_MAX // 8)
        heads = tuple(TensorHead(name, Dtype.U8, shape) for name in ("x", "mask"))
        first = () if ask.chunk else heads
        chunks = count_chunks(BATCH_BYTES_MAX)
        return InputChunk(ask.chunk, chunks, first, NO_FEED), bytes(TENSOR_CHUNK_BYTES_MAX)


@pytest.mark.parametrize("drippers", [(WORKER,), (WORKER, 3)])
async def test_a_check_is_made_while_others_drip(
    drippers: tuple[int, ...], scene: Scene, autojump_clock: MockClock
) -> None:
    """The worker, and a stranger, keep the auditor and the juror waiting; the requester serves."""
    feed = await scene.feed()
    honest = await scene.computed()
    await scene.evidence[REQUESTER].keep(scene.place(), scene.inputs(), feed.signature)
    for index in drippers:
        scene.node(index).network._peers.handlers.calls[AskInputs] = Drip()
    began = trio.current_time()
    scene.court.open_duties.append(scene.duty())
    async with scene.node(CHECKER).shards.use(MODEL, shard_of(0)) as session:
        trial = scene.trial(boundary(feed, corrupt("", 0, honest)), session.class_id)
    scene.court.open_trials.append(trial)
    with trio.fail_after(20):
        while not (scene.court.audits and scene.court.findings):
            await scene.node(CHECKER).chain.wait_height(scene.cluster.world.height + 1)
    assert scene.court.findings == [Finding.DIFFERENT]
    assert trio.current_time() - began < 20


async def test_who_drips_is_blamed_and_not_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Nobody else serves: the check ends with the peer's time, long before its own."""
    await scene.feed()
    drip = Drip()
    scene.node(WORKER).network._peers.handlers.calls[AskInputs] = drip
    blamed: list[RemoteError] = []
    network = scene.node(CHECKER).network
    monkeypatch.setattr(network, "penalise", lambda _peer, error: blamed.append(error))
    key = scene.node(CHECKER).chain.signer
    ask = await scene.recheck.inquiry.begin(scene.place(), scene.node(REQUESTER).address, by=key)
    began = trio.current_time()
    counts = []
    for _ in range(2):
        with pytest.raises(Unserved):
            await scene.recheck.inquiry.fetch(ask, shard_of(0), 4, is_right=lambda _: True)
        counts.append(drip.asked)
    assert trio.current_time() - began < CHUNK_S * 2 + BATCH_BYTES_MAX / BYTES_PER_S_MIN
    assert counts[0] == counts[1]
    assert [error.penalty for error in blamed] == [20]


async def test_a_check_ends_when_no_word_of_it_is_heard_any_more(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Shards that run for an hour hold their places no longer than the audits' window."""
    await scene.feed()
    runner = scene.node(CHECKER).runner
    runner.run_s = 3600
    scene.court.open_duties += [scene.duty(window_ms=60_000 - n) for n in range(CHECKS_MAX)]
    await trio.sleep(59)
    scene.court.open_duties.clear()
    await trio.sleep(2)
    runner.run_s = 0.01
    scene.court.open_duties.append(scene.duty())
    with trio.fail_after(20):
        await scene.court.heard.wait()
