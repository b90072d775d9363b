"""A step that was done, and whose answer its requester did not hear: nobody is to blame."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.generate.held import Held
from prsm.node.inference.links import WorkerLost
from prsm.protocol.codec import Record
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.generation import AskStep
from tests.integration.node.inference.test_generate_worker import Desk, ids, opened
from tests.integration.node.inference.test_sessions_again import PRICE, ended, prompt, steps

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
        (3, [(0, 4)]),  # inside a batch: what we sign for is less than what was done
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
