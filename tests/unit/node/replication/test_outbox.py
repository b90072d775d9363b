"""Intents outlive the process, are sent when somebody is there, and are settled once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from prsm.consensus.ledger.errors import Conflict, InsufficientFunds
from prsm.node.chain.wallet import TransactionExpired, TxResult
from prsm.node.replication import outbox as module
from prsm.node.replication.outbox import INTENTS_MAX, Outbox, OutboxFull
from prsm.protocol.codec import Record
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.custody import Accept, Lapse
from prsm.protocol.transactions.payloads import ACCEPT, LAPSE, TRANSFER
from prsm.protocol.transactions.results import Code, TxReceipt
from tests.tools.announced import SetClock

DEAL = bytes(32)


@dataclass
class FakeSender:
    """A wallet that says what a test tells it to."""

    errors: list[Exception] = field(default_factory=list)
    late: list[Exception] = field(default_factory=list)
    sent: list[tuple[int, Record]] = field(default_factory=list)
    commit: trio.Event = field(default_factory=trio.Event)
    settled: trio.Event = field(default_factory=trio.Event)

    async def submit(self, kind: int, payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        self.sent.append((kind, payload))
        if self.errors:
            raise self.errors.pop(0)
        return TxId(bytes(32))

    async def wait_committed(self, tx_id: TxId) -> TxResult:
        await self.commit.wait()
        if self.late:
            raise self.late.pop(0)
        receipt = TxReceipt(tx=tx_id, code=Code.DONE, fee=1, paid=(), returned=0, detail=0)
        return TxResult(tx_id, 1, 0, receipt)


@dataclass
class Bench:
    """A folder, a wallet, a clock, and whether anybody is there."""

    path: Path
    sender: FakeSender = field(default_factory=FakeSender)
    clock: SetClock = field(default_factory=SetClock)
    is_online: bool = True

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Outbox]:
        box = await Outbox.open(self.path, self.sender, self.clock, lambda: self.is_online)
        try:
            yield box
        finally:
            with trio.CancelScope(shield=True):
                await box.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Outbox]:
        async with self.opened() as box, trio.open_nursery() as nursery:
            await nursery.start(box.run)
            yield box
            nursery.cancel_scope.cancel()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("LOOK_SECONDS", "RETRY_FIRST_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)
    return Bench(tmp_path / "outbox.db")


async def emptied(box: Outbox) -> None:
    with trio.fail_after(10):
        while box.intents():  # noqa: ASYNC110 - the box tells nobody
            await trio.sleep(0.005)


async def sent(bench: Bench, count: int) -> None:
    with trio.fail_after(10):
        while len(bench.sender.sent) < count:  # noqa: ASYNC110 - the fake tells nobody
            await trio.sleep(0.005)


async def test_intent_is_sent_and_struck_out_only_when_a_block_holds_it(bench: Bench) -> None:
    async with bench.running() as box:
        await box.put("accept 1", ACCEPT, Accept(DEAL))
        await sent(bench, 1)
        assert [each.key for each in box.intents()] == ["accept 1"]
        bench.sender.commit.set()
        await emptied(box)
    assert bench.sender.sent == [(ACCEPT, Accept(DEAL))]
    async with bench.opened() as box:
        assert box.intents() == ()


async def test_intent_waits_while_nobody_is_there_and_outlives_the_process(bench: Bench) -> None:
    bench.is_online = False
    async with bench.running() as box:
        await box.put("lapse 1", LAPSE, Lapse(DEAL))
        assert await box._ready() == []
    bench.is_online = True
    bench.sender.commit.set()
    async with bench.running() as box:
        await emptied(box)
    assert bench.sender.sent == [(LAPSE, Lapse(DEAL))]


async def test_what_the_ledger_did_already_is_struck_out(bench: Bench) -> None:
    """A crash after the block and before the line: the second try is refused as done."""
    bench.sender.errors = [Conflict("it exists")]
    async with bench.running() as box:
        await box.put("accept 1", ACCEPT, Accept(DEAL))
        await emptied(box)
    assert len(bench.sender.sent) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_what_may_pass_is_tried_again(bench: Bench, late: bool) -> None:
    bench.sender.commit.set()
    if late:
        bench.sender.late = [TransactionExpired("no block")]
    else:
        bench.sender.errors = [InsufficientFunds("poor")]
    async with bench.running() as box:
        await box.put("accept 1", ACCEPT, Accept(DEAL))
        await emptied(box)
    assert len(bench.sender.sent) == 2


async def test_later_intent_of_a_key_takes_the_place_of_an_earlier(bench: Bench) -> None:
    bench.is_online = False
    async with bench.opened() as box:
        await box.put("a", ACCEPT, Accept(DEAL))
        bench.clock.now_ms += 1
        await box.put("a", LAPSE, Lapse(DEAL))
        [only] = box.intents()
    assert only.kind == LAPSE
    async with bench.opened() as box:
        assert box.intents() == (only,)


async def test_replaced_while_on_its_way_is_sent_anew(bench: Bench) -> None:
    async with bench.running() as box:
        await box.put("a", ACCEPT, Accept(DEAL))
        await sent(bench, 1)
        bench.clock.now_ms += 1
        await box.put("a", ACCEPT, Accept(bytes([1]) * 32))
        bench.sender.commit.set()
        await emptied(box)
    assert [payload for _, payload in bench.sender.sent] == [Accept(DEAL), Accept(bytes([1]) * 32)]


async def test_intent_nobody_wants_any_more_is_struck_out(bench: Bench) -> None:
    bench.is_online = False
    async with bench.running() as box:
        await box.put("a", ACCEPT, Accept(DEAL), until_ms=bench.clock.now_ms + 10)
        bench.clock.now_ms += 11
        await emptied(box)
    assert bench.sender.sent == []


async def test_box_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTENTS_MAX", 2)
    bench.is_online = False
    async with bench.opened() as box:
        for key in ("a", "b", "b"):
            await box.put(key, ACCEPT, Accept(DEAL))
        with pytest.raises(OutboxFull, match="2 intents"):
            await box.put("c", ACCEPT, Accept(DEAL))
        with pytest.raises(AssertionError):
            await box.put("d", TRANSFER, Accept(DEAL))
    assert INTENTS_MAX == 1_000
