"""A step that was done, and whose answer its requester did not hear: nobody is to blame."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.evidence import BEHIND_MAX, Evidence, Place
from prsm.node.inference.generate.held import Held
from prsm.node.inference.links import WorkerLost
from prsm.node.net.interface import CallRefused
from prsm.protocol.codec import Record
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.generation import AskStep, FinishSession
from prsm.protocol.tensors import Tensor
from prsm.storage.evidence import EvidenceFiles
from tests.integration.node.inference.test_generate_worker import (
    Desk,
    StuckFiles,
    desk,
    here,
    ids,
    opened,
)
from tests.integration.node.inference.test_sessions_again import (
    PRICE,
    ended,
    paid_rows,
    prompt,
    steps,
)
from tests.tools.work import Node

STEP_S = 5.0  # less than an idle session is kept


@pytest.fixture
def blamed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What any node holds against another."""
    found: list[str] = []
    monkeypatch.setattr(
        "prsm.node.net.peers.Peers.penalise", lambda _own, _peer, error: found.append(error.what)
    )
    return found


@pytest.fixture
async def unheard(nursery: trio.Nursery) -> Desk:
    return await opened(nursery, price=PRICE)


async def lose_answer(found: Desk, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a step that is given up after it was done, then leave the session."""
    network = found.makers.makers[0].node.links.network
    call = network.call

    async def slow(peer: PeerId, message: Record, **more: object) -> object:
        answer = await call(peer, message, **more)  # type: ignore[arg-type]  # passed on
        if isinstance(message, AskStep):
            await trio.sleep_forever()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(network, "call", slow)
        with trio.move_on_after(STEP_S):
            await steps(found.stage, place, 1)
    await ended(found)


@pytest.mark.parametrize(
    ("heard", "shown"),
    [
        (0, [(0, 4)]),  # the first of a batch
        (3, [(0, 4), (1, 3)]),  # inside a batch: what we sign for is less than what was done
        (17, [(0, 4), (1, 16), (2, 1)]),
        (15, [(0, 4), (1, 16)]),  # the last of a batch, signed for with the step
        (16, [(0, 4), (1, 16)]),
    ],
)
async def test_receipt_of_a_step_that_was_not_heard_is_taken(
    heard: int,
    shown: list[tuple[int, int]],
    unheard: Desk,
    blamed: list[str],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await steps(unheard.stage, 4, heard)
    await lose_answer(unheard, 4 + heard, monkeypatch)
    receipt = await unheard.stage.finish()
    assert receipt is not None
    assert [(batch.index, batch.rows) for batch in receipt.batches] == shown
    assert blamed == []


@pytest.mark.parametrize("replayed", [0, 3, 16])
async def test_receipt_of_a_step_that_was_not_heard_is_taken_by_the_next_session_of_its_seat(
    replayed: int,
    unheard: Desk,
    blamed: list[str],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was opened again and left before, or after, it came to that step."""
    await steps(unheard.stage, 4, 15)
    await lose_answer(unheard, 19, monkeypatch)
    again = unheard.routes.stage(0)
    await again.open()
    await again.step(0, (4,), ids(*prompt()))
    await steps(again, 4, replayed)
    receipt = await again.finish()
    assert receipt is not None
    assert [(batch.index, batch.rows) for batch in receipt.batches] == [(0, 4), (1, 16)]
    assert blamed == []


@pytest.mark.parametrize(
    ("batch", "change"),
    [(0, {"output_root": bytes(32)}), (1, {"side_root": bytes(32)}), (1, {"rows": 15})],
)
async def test_receipt_of_what_was_neither_heard_nor_signed_for_is_refused(
    batch: int,
    change: dict[str, object],
    unheard: Desk,
    blamed: list[str],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await steps(unheard.stage, 4, 15)
    await lose_answer(unheard, 19, monkeypatch)
    [held] = unheard.worker.sessions._ended.values()
    results = [
        msgspec.structs.replace(each, **change) if each.index == batch else each
        for each in held.results()
    ]
    monkeypatch.setattr("prsm.node.inference.generate.held.Held.results", lambda _held: results)
    with pytest.raises(WorkerLost, match="not of what it answered"):
        await unheard.stage.finish()
    assert blamed == ["a receipt that is not of what it answered"]


async def test_receipt_of_another_answer_than_was_heard_in_the_end_is_refused(
    unheard: Desk,
    blamed: list[str],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch whose first answer was lost was done again and answered: no other is its own."""
    await steps(unheard.stage, 4, 15)
    await lose_answer(unheard, 19, monkeypatch)
    again = unheard.routes.stage(0)
    await again.open()
    await again.step(0, (4,), ids(*prompt()))
    await steps(again, 4, 16)
    real = Held.results

    def other(own: Held) -> list[object]:
        return [
            msgspec.structs.replace(each, output_root=bytes(32)) if each.index == 1 else each
            for each in real(own)
        ]

    monkeypatch.setattr(Held, "results", other)
    with pytest.raises(WorkerLost, match="not of what it answered"):
        await again.finish()
    assert blamed == ["a receipt that is not of what it answered"]


async def test_short_batch_is_paid_up_to_the_step_that_was_not_heard(
    unheard: Desk, blamed: list[str], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await steps(unheard.stage, 4, 3)
    await lose_answer(unheard, 7, monkeypatch)
    assert await unheard.stage.finish() is not None
    assert await paid_rows(unheard, unheard.stage, within_s=300) == 4 + 3
    assert blamed == []


async def test_short_batch_is_kept_for_checks_up_to_the_step_that_was_not_heard(
    nursery: trio.Nursery,
    blamed: list[str],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    kept: dict[bytes, Evidence] = {}

    def keep(node: Node) -> Evidence:
        made = Evidence(EvidenceFiles(tmp_path / str(node.index)), node.chain)
        return kept.setdefault(node.address, made)

    found = await desk(nursery, price=PRICE, keep=keep)
    await found.stage.open()
    await found.stage.step(0, (4,), ids(*prompt()))
    await steps(found.stage, 4, 3)
    await lose_answer(found, 7, monkeypatch)
    receipt = await found.stage.finish()
    assert receipt is not None
    seat = found.stage.seat
    for evidence in (kept[seat.worker], kept[found.makers.makers[0].node.address]):
        chunk = await evidence.chunk(Place(seat.job, seat.unit, 1, Side.IN, seat.worker), 0)
        assert chunk is not None
        assert chunk[0].tensors[0].shape == (1, 3)
    assert blamed == []


async def test_word_for_a_short_batch_is_not_taken_while_it_grows(
    unheard: Desk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requester had the worker show a batch with its word for another, which a check convicts."""
    stage, sessions = unheard.stage, unheard.worker.sessions
    await steps(stage, 4, 1)
    rest = stage.book.rest()
    assert rest is not None
    word = stage._sign(rest.index, rest.input_root, rest.side_root)
    compute, may_go = sessions._compute, trio.Event()

    async def slow(held: Held, ask: AskStep, carried: Tensor) -> tuple[Tensor, int]:
        await may_go.wait()
        return await compute(held, ask, carried)

    monkeypatch.setattr(sessions, "_compute", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steps, stage, 5, 1)
        await trio.sleep(1)
        with pytest.raises(CallRefused, match="no batch of this unit"):
            await unheard.raw(FinishSession(stage.seat.job, stage.seat.unit, (word.signature,)))
        may_go.set()
    await ended(unheard)
    [held] = sessions._ended.values()
    said = {feed.batch: (feed.input_root, feed.side_root) for feed in held.words()}
    assert {each.index: (each.input_root, each.side_root) for each in held.results()} == said
    assert list(said) == [0]


async def test_receipt_waits_until_all_that_was_done_is_kept_for_checks(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Asked for while a slow disk had not taken all of a step, the rest was kept nowhere."""
    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    batches, short = BEHIND_MAX + 36, 3
    monkeypatch.setattr(
        "tests.integration.node.inference.test_generate_worker.batch_plan",
        lambda _prompt, _tokens: (*(1,) * batches, 16),
    )
    may_write, kept = trio.Event(), dict[bytes, Evidence]()

    def keep(node: Node) -> Evidence:
        made = Evidence(StuckFiles(tmp_path / str(node.index), may_write), node.chain)
        nursery.start_soon(made.run)
        return kept.setdefault(node.address, made)

    found = await desk(nursery, price=PRICE, keep=keep)
    stage, seat = found.stage, found.stage.seat
    await stage.open()
    tensor, sizes = ids(*range(batches + short)), (1,) * (batches + short)
    words = tuple(stage._sign(*roots).signature for roots in stage.book.fed(sizes, tensor))
    ask = found.ask(0, tensor, sizes=sizes, feeds=words)
    with trio.fail_after(60):
        async with trio.open_nursery() as asking:
            asking.start_soon(found.raw, ask, tensor.data)
            await trio.sleep(1)
            [held] = found.worker.sessions._held.values()
            rest = held.book.rest()
            assert rest is not None
            word = stage._sign(rest.index, rest.input_root, rest.side_root).signature
            finish = FinishSession(seat.job, seat.unit, (word,))
            with pytest.raises(CallRefused, match="no batch of this unit"):
                await found.raw(finish)
            may_write.set()
    await found.raw(finish)
    [claim] = found.worker.node.claims._claims.values()
    assert len(claim.receipt.batches) == batches + 1
    for batch in claim.receipt.batches:
        place = Place(seat.job, seat.unit, batch.index, Side.IN, seat.worker)
        assert await kept[seat.worker].chunk(place, 0) is not None
