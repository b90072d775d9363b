"""Drawn nodes fetch what a batch was made from, compute it again, and say what they found."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.court import Opening
from prsm.node.inference.inquiry import Ask
from prsm.node.inference.judging import Stated
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.errors import Unsupported
from prsm.protocol.ids import Signature
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.messages.audit import (
    AskInputs,
    InputChunk,
    Side,
    ask_inputs_statement,
)
from prsm.protocol.tensors import Dtype, Tensor
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.payloads import REFUND, Refund
from tests.tools.checking import CHECKER, REQUESTER, WORKER, Scene, shard_of
from tests.tools.court import JOB, boundary, feed_of, lock_alone
from tests.tools.work import (
    MODEL,
    MemoryModels,
    Node,
    given_rows,
    honest,
    make_cluster,
    make_manifest,
)

pytestmark = pytest.mark.usefixtures("no_threads")


@pytest.fixture
async def scene(nursery: trio.Nursery, tmp_path: Path) -> Scene:
    made = Scene(make_cluster(), tmp_path)
    await made.start(nursery)
    return made


@pytest.mark.parametrize("stage", [0, 1])
async def test_an_auditor_finds_what_an_honest_worker_answers(
    stage: int, scene: Scene, autojump_clock: MockClock
) -> None:
    feed = await scene.feed(stage=stage)
    expected = boundary(feed, await scene.computed(stage=stage))
    scene.court.open_duties.append(scene.duty())
    await scene.heard()
    assert scene.court.audits == [(0, expected)]


async def test_inputs_of_several_chunks_arrive_whole(
    scene: Scene, autojump_clock: MockClock
) -> None:
    feed = await scene.feed(width=200_001)
    scene.court.open_duties.append(scene.duty())
    await scene.heard()
    assert [b.input_root for _, b in scene.court.audits] == [feed.input_root]


async def test_the_requester_serves_what_its_worker_forged(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """The worker keeps other rows under the requester's signature; they are passed over."""
    await lock_alone(scene.node(REQUESTER), scene.node(WORKER), [4])
    tensors = scene.inputs()
    feed = feed_of(scene.node(REQUESTER), tensors)
    forged = (Tensor(tensors[0].head, bytes(len(tensors[0].data))), tensors[1])
    await scene.evidence[WORKER].keep(scene.place(), forged, feed.signature)
    await scene.evidence[REQUESTER].keep(scene.place(), tensors, feed.signature)
    scene.court.open_duties.append(scene.duty())
    await scene.heard()
    assert [b.input_root for _, b in scene.court.audits] == [feed.input_root]


async def test_a_batch_of_an_open_ended_unit_may_have_fewer_rows_than_locked(
    scene: Scene, autojump_clock: MockClock
) -> None:
    requester, worker = scene.node(REQUESTER), scene.node(WORKER)
    await lock_alone(requester, worker, [8] * 8, is_open_ended=True)
    tensors = given_rows(5)
    feed = feed_of(requester, tensors, batch=4)
    place = replace(scene.place(), batch=4)
    await scene.evidence[WORKER].keep(place, tensors, feed.signature)
    scene.court.open_duties.append(scene.duty(batch=4))
    await scene.heard()
    [(batch, found)] = scene.court.audits
    assert (batch, found.input_root) == (4, feed.input_root)


def _same(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs


def _moved(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    [tensor] = outputs
    return (Tensor(tensor.head, bytes([tensor.data[0] ^ 1]) + tensor.data[1:]),)


@pytest.mark.parametrize(
    ("answer", "is_same_class", "gap_ppb", "finding"),
    [
        (_same, True, 0, Finding.EQUAL),
        (_moved, True, 0, Finding.DIFFERENT),
        (_moved, False, TOLERANCE_PPB, Finding.CLOSE),
        (_moved, False, TOLERANCE_PPB + 1, Finding.DIFFERENT),
    ],
)
async def test_a_committee_member_judges(
    answer: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]],
    is_same_class: bool,
    gap_ppb: int,
    finding: Finding,
    scene: Scene,
    autojump_clock: MockClock,
) -> None:
    feed = await scene.feed()
    answered = answer(await scene.computed())
    await scene.evidence[WORKER].keep(scene.place(Side.OUT), answered)
    scene.node(CHECKER).runner.gap_ppb = gap_ppb
    async with scene.node(CHECKER).shards.use(MODEL, shard_of(0)) as session:
        class_id = session.class_id if is_same_class else b"?" * 32
    scene.court.open_trials.append(scene.trial(boundary(feed, answered), class_id))
    await scene.heard()
    assert scene.court.findings == [finding]


async def test_what_was_sealed_is_shown_without_another_look(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Nobody need serve the inputs any more: what was found stands sealed on the ledger."""
    opening = Opening(JOB, 0, b"o" * 32, b"s" * 32)
    scene.court.sealed.append(opening)
    await scene.heard()
    assert (scene.court.opened, scene.court.findings) == ([opening], [])


async def test_another_class_of_an_integer_model_is_not_judged(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Goal: nobody loses a bond for a CPU. Method: other bits and class, the model marked."""
    feed = await scene.feed()
    answered = _moved(await scene.computed())
    await scene.evidence[WORKER].keep(scene.place(Side.OUT), answered)
    manifest = make_manifest(made=Dtype.F32)
    apart = msgspec.structs.replace(manifest.compute, options="cpu; classes=apart")
    marked = MemoryModels(msgspec.structs.replace(manifest, compute=apart))
    recheck = replace(scene.recheck, models=marked)
    key = scene.node(CHECKER).chain.signer
    with pytest.raises(Unsupported, match="inside a determinism class only"):
        await recheck.judge(Ask(scene.place(), key), Stated(boundary(feed, answered), b"?" * 32))


async def test_an_integer_another_class_answered_convicts_nobody(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Goal: a label that fell otherwise on another CPU costs no bond. Method: outputs of bytes."""
    for node in scene.cluster.nodes:
        node.runner.hook = honest
    feed = await scene.feed()
    answered = _moved(await scene.computed())
    await scene.evidence[WORKER].keep(scene.place(Side.OUT), answered)
    recheck = replace(scene.recheck, models=MemoryModels(make_manifest()))
    key = scene.node(CHECKER).chain.signer
    with pytest.raises(Unsupported, match="inside a determinism class only"):
        await recheck.judge(Ask(scene.place(), key), Stated(boundary(feed, answered), b"?" * 32))


async def test_what_nobody_serves_is_judged_so_at_the_end_only(
    scene: Scene, autojump_clock: MockClock
) -> None:
    await lock_alone(scene.node(REQUESTER), scene.node(WORKER), [4])
    feed = feed_of(scene.node(REQUESTER), scene.inputs())
    trial = scene.trial(boundary(feed, await scene.computed()), b"?" * 32)
    scene.court.open_trials.append(trial)
    await scene.heard()
    assert scene.court.findings == [Finding.UNSERVED]
    left_ms = trial.until_ms - scene.cluster.world.time_ms
    assert 0 < left_ms <= 10_000


async def test_only_drawn_accounts_are_answered(scene: Scene, autojump_clock: MockClock) -> None:
    """Goal: inputs are seen by whom the ledger drew. Method: each way to ask that it did not."""
    await scene.feed()
    stranger = scene.node(3)

    async def refusal(ask: AskInputs) -> str:
        with pytest.raises(CallRefused) as refused:
            await stranger.network.call(
                scene.node(WORKER).network.peer_id, ask, channel=Channel.BULK
            )
        return refused.value.refusal

    drawn = scene.node(CHECKER)
    unsigned = AskInputs(
        job=JOB,
        unit=0,
        batch=0,
        chunk=0,
        side=Side.IN,
        worker=scene.node(WORKER).address,
        asker=stranger.address,
        signature=Signature(bytes(64)),
    )
    signed = partial(_signed, node=stranger)
    assert await refusal(signed(unsigned)) == "not_named"
    in_its_name = msgspec.structs.replace(unsigned, asker=drawn.address)
    assert await refusal(signed(in_its_name)) == "bad_signature"
    stolen = _signed(in_its_name, node=drawn)  # signed for the peer that was drawn
    assert await refusal(stolen) == "bad_signature"
    scene.court.drawn.add(stranger.address)
    for changes in ({"batch": 1}, {"unit": 1}, {"side": Side.OUT}, {"chunk": 1}):
        other = msgspec.structs.replace(unsigned, **changes)
        assert await refusal(signed(other)) == "unknown_job"
    answer, data = await stranger.network.call(
        scene.node(WORKER).network.peer_id, signed(unsigned), channel=Channel.BULK
    )
    assert isinstance(answer, InputChunk)
    assert data == b"".join(tensor.data for tensor in scene.inputs())


async def test_evidence_goes_when_the_ledger_has_closed_the_job(
    scene: Scene, autojump_clock: MockClock
) -> None:
    await scene.feed()
    world, chain = scene.cluster.world, scene.node(REQUESTER).chain
    assert await scene.evidence[WORKER].chunk(scene.place(), 0) is not None
    world.time_ms += 2_000_000
    result = await chain.wait_committed(await chain.submit(REFUND, Refund(JOB)))
    assert result.ok
    with trio.fail_after(60):
        while await scene.evidence[WORKER].chunk(scene.place(), 0) is not None:
            await chain.wait_height(chain.height() + 1)


def _signed(ask: AskInputs, *, node: Node) -> AskInputs:
    statement = ask_inputs_statement(
        ask, chain_id=node.chain.chain_id, asker_peer=node.network.peer_id
    )
    return msgspec.structs.replace(ask, signature=node.chain.signer.sign(statement))
