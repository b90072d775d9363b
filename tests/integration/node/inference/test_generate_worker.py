"""A worker's sessions: positions, feeds, whose they are, how long they stay, what they may take."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.node.inference.estimate import memory_needed
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.generate.book import batch_plan
from prsm.node.inference.generate.held import Room
from prsm.node.inference.generate.route import Wanted
from prsm.node.inference.generate.routes import Routes
from prsm.node.inference.generate.stage import RemoteStage
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.market import Market
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.codec import Record
from prsm.protocol.generating import GREEDY, kv_shape
from prsm.protocol.messages.generation import (
    AskStep,
    FinishSession,
    OpenSession,
    StepDone,
    session_statement,
)
from prsm.protocol.receipts import Feed, WorkReceipt, sign_feed
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.storage.evidence import EvidenceFiles
from tests.tools.generating import (
    POSITION_BYTES,
    Maker,
    Makers,
    generating_manifest,
    make_makers,
    tokens_of,
)
from tests.tools.work import MODEL, RUNTIME, Node

PROMPT = "abcd"
TOKENS = 40


def ids(*tokens: int) -> Tensor:
    head = TensorHead("ids", Dtype.I64, (1, len(tokens)))
    return Tensor(head, struct.pack(f"<{len(tokens)}q", *tokens))


@dataclass
class Desk:
    """Node 0 with a locked route of one stage, and the session of its worker."""

    makers: Makers
    routes: Routes
    stage: RemoteStage

    @property
    def worker(self) -> Maker:
        account = self.stage.seat.worker
        return next(maker for maker in self.makers.makers if maker.node.address == account)

    async def raw(self, message: Record, tail: bytes = b"", *, place: int = 0) -> Record:
        """Ask the worker as node `place` does."""
        network = self.makers.makers[place].node.network
        channel = Channel.BULK if isinstance(message, AskStep) else Channel.CTL
        answer, _ = await network.call(self.stage.seat.peer, message, channel=channel, tail=tail)
        return answer

    def ask(
        self,
        start: int,
        tensor: Tensor,
        *,
        sizes: tuple[int, ...] = (),
        feeds: tuple[bytes, ...] = (),
    ) -> AskStep:
        seat = self.stage.seat
        steps = sizes or (tensor.head.shape[1],)
        return AskStep(seat.job, seat.unit, start, steps, False, tensor.head, feeds)

    async def refused(self, ask: AskStep, tensor: Tensor, *, place: int = 0) -> CallRefused:
        with pytest.raises(CallRefused) as caught:
            await self.raw(ask, tensor.data, place=place)
        return caught.value


class StuckFiles(EvidenceFiles):
    """What checks need, on a disk that writes nothing before it may."""

    def __init__(self, folder: Path, may_write: trio.Event) -> None:
        super().__init__(folder)
        self._may_write = may_write

    @override
    async def keep_all(self, job: bytes, unit: int, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        await self._may_write.wait()
        await super().keep_all(job, unit, pieces)


async def desk(
    nursery: trio.Nursery,
    *,
    room: Room | None = None,
    price: int = 0,
    tokens: int = TOKENS,
    keep: Callable[[Node], Evidence] | None = None,
) -> Desk:
    makers = make_makers(3, room=room, price_per_row=price, keep=keep)
    await makers.start(nursery)
    [shard] = [shard for shard in generating_manifest().shards if shard.stages == 1]
    wanted = Wanted(
        model=MODEL,
        runtime=RUNTIME,
        stages=1,
        first=0,
        rows=batch_plan(len(PROMPT), tokens),
        shapes=(kv_shape(shard.inputs, shard.outputs),),
        rooms=(memory_needed(shard),),
        sampling=GREEDY,
        price_cap=None,
        deadline_ms=600_000,
        tenant=b"",
    )
    routes = Routes(makers.makers[0].node.links, wanted, MemoryReceipts(), Market())
    await routes.lock(has_spare=False)
    return Desk(makers, routes, routes.stage(0))


async def opened(nursery: trio.Nursery, *, room: Room | None = None, price: int = 0) -> Desk:
    """With the prompt in its cache."""
    found = await desk(nursery, room=room, price=price)
    await found.stage.open()
    made = await found.stage.step(0, (4,), ids(*PROMPT.encode()))
    assert struct.unpack("<q", made.data) == (tokens_of(PROMPT, 1)[0],)
    return found


@pytest.mark.parametrize("start", [0, 3, 5, 400])
async def test_step_that_starts_elsewhere_is_refused_with_the_length_held(
    start: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    error = await found.refused(found.ask(start, ids(1)), ids(1))
    assert error.refusal == "position_mismatch"
    assert f"position {start}, this session holds 4" in error.what
    made = await found.stage.step(4, (1,), ids(tokens_of(PROMPT, 1)[0]))
    assert struct.unpack("<q", made.data) == (tokens_of(PROMPT, 2)[1],)


@pytest.mark.parametrize("case", ["none", "two", "empty", "stranger", "other batch"])
async def test_batch_without_the_word_of_the_requester_is_not_computed(
    case: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await desk(nursery, price=10)
    await found.stage.open()
    tensor, seat = ids(*PROMPT.encode()), found.stage.seat
    ours, stranger = (found.makers.makers[place].node.chain for place in (0, 1))
    [(_, before, side)] = found.stage.book.fed((4,), tensor)
    right = Feed(seat.job, seat.unit, 0, before, side, bytes(64))
    good = sign_feed(right, ours.signer, chain_id=ours.chain_id).signature
    other = msgspec.structs.replace(right, batch=1)
    feeds: tuple[bytes, ...]
    feeds, reason = {
        "none": ((), "bad_encoding"),
        "two": ((good, good), "bad_encoding"),
        "empty": ((bytes(64),), "bad_signature"),
        "stranger": (
            (sign_feed(right, stranger.signer, chain_id=ours.chain_id).signature,),
            "bad_signature",
        ),
        "other batch": (
            (sign_feed(other, ours.signer, chain_id=ours.chain_id).signature,),
            "bad_signature",
        ),
    }[case]
    error = await found.refused(found.ask(0, tensor, feeds=feeds), tensor)
    assert error.refusal == reason
    assert found.worker.runner.steps == 0
    answer = await found.raw(found.ask(0, tensor, feeds=(good,)), tensor.data)
    assert isinstance(answer, StepDone)


async def test_worker_risks_less_than_one_batch(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Fifteen steps of a batch go without a word; the sixteenth does not."""
    found = await opened(nursery, price=10)
    for place in range(15):
        await found.raw(found.ask(4 + place, ids(1)), ids(1).data)
    error = await found.refused(found.ask(19, ids(1)), ids(1))
    assert "0 feeds with these steps, 1 are due" in error.what


async def here(call: Callable[..., object], *given: object, **_bounds: object) -> object:
    """What a thread would do, in the loop: the clock of a test jumps while it waits for one."""
    await trio.lowlevel.checkpoint()
    return call(*given)


async def test_answer_does_not_wait_for_the_disk_but_the_receipt_does(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    may_write, disks = trio.Event(), list[StuckFiles]()

    def keep(node: Node) -> Evidence:
        disks.append(StuckFiles(tmp_path / str(node.index), may_write))
        evidence = Evidence(disks[-1], node.chain)
        nursery.start_soon(evidence.run)
        return evidence

    found = await desk(nursery, price=10, keep=keep)
    await found.stage.open()
    await found.stage.step(0, (4,), ids(*PROMPT.encode()))
    await found.stage.step(4, (1,), ids(1))
    shown: list[WorkReceipt | None] = []

    async def finish() -> None:
        shown.append(await found.stage.finish())

    nursery.start_soon(finish)
    await trio.sleep(5)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    assert shown == []
    assert chain.committed(seat.job, seat.unit, seat.worker) is None
    may_write.set()
    await trio.sleep(5)
    [receipt] = shown
    assert receipt is not None
    kept = [len(disk.names(seat.job, seat.unit)) for disk in disks]
    assert sorted(kept) == [0, 4 * len(receipt.batches), 4 * len(receipt.batches)]


async def test_nobody_else_reaches_a_session(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The same job and unit from another peer, and a stranger's signature under an opening."""
    found = await opened(nursery)
    other = 1 if found.worker is not found.makers.makers[1] else 2
    error = await found.refused(found.ask(4, ids(1)), ids(1), place=other)
    assert error.refusal == "unknown_session"
    seat, stranger = found.stage.seat, found.makers.makers[other].node
    unsigned = OpenSession(seat.job, seat.unit, seat.worker, 43, GREEDY, bytes(64))
    statement = session_statement(
        unsigned, chain_id=stranger.chain.chain_id, requester_peer=stranger.network.peer_id
    )
    opening = msgspec.structs.replace(unsigned, signature=stranger.chain.signer.sign(statement))
    with pytest.raises(CallRefused) as caught:
        await found.raw(opening, place=other)
    assert caught.value.refusal == "bad_signature"
    with pytest.raises(CallRefused) as caught:
        await found.raw(FinishSession(seat.job, seat.unit, ()), place=other)
    assert caught.value.refusal == "unknown_session"


async def test_idle_session_is_forgotten_after_a_minute_and_its_work_claimed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=10)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    await trio.sleep(55)
    await found.stage.step(4, (1,), ids(1))
    await trio.sleep(55)
    await found.stage.step(5, (1,), ids(1))
    assert found.worker.sessions.count == 1
    await trio.sleep(63)
    assert found.worker.sessions.count == 0
    assert found.worker.sessions.bytes_held == 0
    assert not any(stepper.caches for stepper in found.worker.runner.opened)
    with pytest.raises(WorkerLost, match="unknown_session") as lost:
        await found.stage.step(6, (1,), ids(1))
    assert lost.value.cause == "unknown_session"
    await trio.sleep(10)
    assert chain.committed(seat.job, seat.unit, seat.worker) is not None
    # What the requester signed goes with the receipt: shown where an auditor was fed otherwise.
    claim = found.worker.node.claims._claims[seat.job, seat.unit]
    [batch] = claim.receipt.batches
    said = [(feed.batch, feed.input_root, feed.side_root) for feed in claim.feeds]
    assert said == [(batch.index, batch.input_root, batch.side_root)]


async def test_session_opened_again_by_its_peer_goes_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    await found.stage.open()
    assert found.worker.sessions.count == 1
    await found.stage.step(4, (1,), ids(1))


async def test_room_for_caches_is_set_aside_for_each_peer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    positions = sum(batch_plan(len(PROMPT), TOKENS))
    room = Room(bytes_per_peer_max=2 * positions * POSITION_BYTES)
    found = await opened(nursery, room=room)
    stages = []
    for _ in range(2):
        await found.routes.lock(has_spare=False)
        stages.append(found.routes.stage(0))
    await stages[0].open()
    with pytest.raises(WorkerLost, match=f"quota_full: {positions} positions take"):
        await stages[1].open()
    found.stage.end()
    await trio.sleep(1)
    await stages[1].open()
    assert found.worker.sessions.bytes_held == room.bytes_per_peer_max


async def test_more_positions_than_set_aside_are_refused(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    tensor = ids(*range(40))
    error = await found.refused(found.ask(4, tensor, sizes=(1,) * 40), tensor)
    assert error.refusal == "quota_full"


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (TensorHead("ids", Dtype.I64, (1, 2)), bytes(16)),
        (TensorHead("ids", Dtype.I32, (1, 1)), bytes(4)),
        (TensorHead("cut1", Dtype.I64, (1, 1)), bytes(8)),
        (TensorHead("ids", Dtype.I64, (2, 1)), bytes(16)),
        (TensorHead("ids", Dtype.I64, (1, 1)), bytes(9)),
        (TensorHead("ids", Dtype.I64, (1, 1)), b""),
    ],
)
async def test_tensor_of_another_form_is_refused(
    head: TensorHead, tail: bytes, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    seat, steps = found.stage.seat, found.worker.runner.steps
    ask = AskStep(seat.job, seat.unit, 4, (1,), False, head, ())
    error = await found.refused(ask, Tensor(head, tail))
    assert error.refusal in ("input_mismatch", "bad_encoding")
    assert found.worker.runner.steps == steps


async def test_history_for_nothing_is_refused_where_work_is_paid(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await desk(nursery, price=10)
    await found.stage.open()
    with pytest.raises(WorkerLost, match="policy_refused"):
        await found.stage.step(0, (4,), ids(*PROMPT.encode()), is_history=True)
    assert found.worker.runner.steps == 0


async def test_two_messages_of_one_session_at_once_are_one_too_many(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    refused: list[str] = []

    async def ask() -> None:
        try:
            await found.raw(found.ask(4, ids(1)), ids(1).data)
        except CallRefused as error:
            refused.append(error.refusal)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        asking.start_soon(ask)
    assert refused == ["busy"]
