"""Whoever is slow to give what a check needs neither prevents it nor holds its place."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.audits import CHECKS_MAX
from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.inquiry import BYTES_PER_S_MIN, CHUNK_S, LEFT_S, Ask, Unserved
from prsm.node.inference.transfer import count_chunks
from prsm.node.net.interface import Answer, Incoming
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.audit import AskInputs, InputChunk, Side
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
    ask = Ask(scene.place(), key)
    await scene.recheck.inquiry.begin(ask, scene.node(REQUESTER).address)
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


async def over(scene: Scene, window_s: float) -> None:
    """The last check's time is up."""
    await trio.sleep(window_s + scene.cluster.world.heartbeat_s)
    scene.court.open_trials.clear()


@pytest.mark.parametrize(("free_s", "findings"), [(30, [Finding.EQUAL]), (LEFT_S - 3, [])])
async def test_nothing_is_said_of_a_worker_there_was_no_time_to_ask(
    free_s: float, findings: list[Finding], scene: Scene, autojump_clock: MockClock
) -> None:
    """Goal: it serves at once. Method: other checks hold all places until `free_s` of the end."""
    feed = await scene.feed()
    async with scene.node(CHECKER).shards.use(MODEL, shard_of(0)) as session:
        trial = scene.trial(boundary(feed, await scene.computed()), session.class_id)
    runner = scene.node(CHECKER).runner
    runner.run_s = 3600
    taken_s = 60 - free_s
    duties = [scene.duty(window_ms=int(taken_s * 1000) - n) for n in range(CHECKS_MAX)]
    scene.court.open_duties += duties
    await trio.sleep(15)  # a block later they run
    scene.court.open_trials.append(trial)
    await trio.sleep(taken_s - 15 - 1)
    runner.run_s = 0.01
    scene.court.open_duties.clear()
    await over(scene, free_s + 1)
    assert scene.court.findings == findings


@pytest.mark.parametrize(("run_s", "findings"), [(5, [Finding.DIFFERENT]), (45, [])])
async def test_nothing_is_said_where_a_run_left_no_time_for_the_outputs(
    run_s: float, findings: list[Finding], scene: Scene, autojump_clock: MockClock
) -> None:
    """A wrong result of another class, and its worker serves inputs and outputs at once."""
    feed = await scene.feed()
    wrong = corrupt("", 0, await scene.computed())
    await scene.evidence[WORKER].keep(scene.place(Side.OUT), wrong)
    scene.node(CHECKER).runner.run_s = run_s
    scene.court.open_trials.append(scene.trial(boundary(feed, wrong), b"?" * 32))
    await over(scene, 60)
    assert scene.court.findings == findings


async def test_a_peer_is_blamed_once_in_a_trial_and_for_silence_never(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """One drips, two give no chunk in time; nobody serves, so the trial is tried to its end."""
    feed = await scene.feed()
    honest = await scene.computed()
    asked: list[int] = []

    def silent(index: int) -> Callable[[Incoming], Awaitable[Answer]]:
        async def answer(_incoming: Incoming) -> Answer:
            asked.append(index)
            await trio.sleep_forever()

        return answer

    drip = Drip()
    scene.node(WORKER).network._peers.handlers.calls[AskInputs] = drip
    for index in (REQUESTER, 3):
        scene.node(index).network._peers.handlers.calls[AskInputs] = silent(index)
    blamed: list[PeerId] = []
    network = scene.node(CHECKER).network
    monkeypatch.setattr(network, "penalise", lambda peer, _error: blamed.append(peer))
    trial = scene.trial(boundary(feed, honest), b"?" * 32)
    scene.court.open_trials.append(replace(trial, until_ms=trial.until_ms + 165_000))
    await over(scene, 225)
    assert blamed == [scene.node(WORKER).network.peer_id]
    assert (asked.count(REQUESTER) > 3, asked.count(3) > 3) == (True, True)
    assert scene.court.findings == [Finding.UNSERVED]
