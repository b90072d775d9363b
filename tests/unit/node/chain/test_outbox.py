"""Intents outlive the process, are sent when somebody is there, and are on the ledger once."""

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from prsm.consensus.ledger.errors import TransactionRefused
from prsm.node.chain import intentbook, outbox, wallet
from prsm.node.chain.intentbook import GivenUp, IntentBook, OutboxFull
from prsm.node.chain.intents import MIGRATIONS, Intent
from prsm.node.chain.outbox import CannotWait, Outbox, validators_linked
from prsm.protocol.codec import Record, encode
from prsm.protocol.transactions.custody import Lapse
from prsm.protocol.transactions.payloads import (
    LAPSE,
    REGISTER_MODEL,
    SET_CHANNEL,
    TRANSFER,
    Transfer,
)
from prsm.protocol.transactions.registry import SetChannel
from prsm.storage.errors import NotFound
from tests.tools.labs import make_cluster
from tests.tools.outboxes import OWNER, Killed, World, emptied, release

STABLE = SetChannel("minilm", "stable", "1.0.0")
OTHER = SetChannel("minilm", "stable", "2.0.0")
KEY = "channel:minilm:stable"
Method = Callable[..., Awaitable[object]]
STEPS = ("put", "kept", "before send", "after send", "block", "ended")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(intentbook, "RETRY_FIRST_SECONDS", 0.005)
    monkeypatch.setattr(wallet, "RESEND_SECONDS", 0.005)
    return World(tmp_path)


async def order(box: Outbox, payload: Record = STABLE, key: str = KEY) -> str:
    """Put it, and say what a person is told."""
    kind = SET_CHANNEL if isinstance(payload, SetChannel) else REGISTER_MODEL
    sent = await box.place(key, kind, payload, subject="name:minilm", patience_s=5)
    return sent.queued


async def test_order_is_in_a_block_before_its_caller_hears_of_it(world: World) -> None:
    async with world.node() as box:
        assert not await order(box)
        assert box.intents() == ()
        [over] = box.ended()
    assert (over.key, over.how, over.raw, over.payload) == (KEY, "done", b"", b"")
    assert world.done(STABLE) == 1


async def test_order_waits_while_nobody_answers_and_outlives_the_process(world: World) -> None:
    world.is_online = False
    async with world.node() as box:
        assert await order(box) == "it will be sent when validators answer: none of 4 does now"
        assert await order(box, release("3.0.0"), "name:minilm@3.0.0")
        assert [each.key for each in box.intents()] == [KEY, "name:minilm@3.0.0"]
    assert world.pool == []
    world.is_online = True
    async with world.node() as box:
        await emptied(box)
        assert {each.how for each in box.ended()} == {"done"}
    assert (world.done(STABLE), world.done(release("3.0.0"))) == (1, 1)


async def test_what_depends_on_what_waits_goes_after_it(world: World) -> None:
    """A channel to a version whose registration waits too: the ledger would refuse it now."""
    world.is_online = False
    third = SetChannel("minilm", "next", "3.0.0")
    async with world.node() as box:
        with pytest.raises(TransactionRefused):
            await order(box, third, "channel:minilm:next")
        assert box.intents() == ()
        await order(box, release("3.0.0"), "name:minilm@3.0.0")
        await order(box, third, "channel:minilm:next")
        world.is_online = True
        before, after = box.intents()
        assert box.waits_for(after).startswith("it will be sent when what was ordered before")
        await emptied(box)
        assert box.waits_for(before)
        assert not any(map(box.waits_for, box.ended()))
    assert (world.done(release("3.0.0")), world.done(third)) == (1, 1)


@pytest.fixture
def steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node tells the world after each change of its file."""
    names = {"put": "put", "keep": "kept", "end": "ended"}
    for method, name in names.items():
        monkeypatch.setattr(IntentBook, method, _telling(getattr(IntentBook, method), world, name))


def _telling(method: Method, world: World, name: str) -> Method:
    async def told(self: IntentBook, *args: object, **more: object) -> object:
        result = await method(self, *args, **more)
        world.step(name)
        return result

    return told


async def killed_at(world: World, step: str, payload: Record = STABLE, key: str = KEY) -> None:
    def kill(name: str) -> None:
        if name == step:
            raise Killed

    world.step = kill
    try:
        async with world.node() as box:
            await order(box, payload, key)
    except* Killed:
        pass
    else:
        raise AssertionError(f"it never came to {step!r}")
    world.step = lambda _name: None
    world.arrived = trio.Event()


@pytest.mark.parametrize("meanwhile", ["nothing", "block", "too late", "undone", "nonce taken"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("steps")
async def test_killed_at_any_step_it_is_on_the_ledger_once(
    world: World, step: str, meanwhile: str
) -> None:
    """What the network did with the transaction while the node was down; `undone` by its owner."""
    await killed_at(world, step)
    if meanwhile in {"block", "undone"}:
        world.next_block()
    if meanwhile == "too late":
        world.next_block(later_ms=700_000)
    if meanwhile == "undone" and world.done(STABLE):
        world.chain.send(OWNER, OTHER)
    if meanwhile == "nonce taken":
        world.chain.send(OWNER, release("3.0.0"))
        world.pool = []
    async with world.node() as box:
        await emptied(box)
        assert {each.how for each in box.ended()} == {"done"}
    assert world.done(STABLE) == 1
    channels = dict(world.chain.ledger.view.channels("minilm"))
    was_undone = world.done(OTHER) == 1
    assert channels["stable"] == ("2.0.0" if was_undone else "1.0.0")


@pytest.mark.usefixtures("steps")
async def test_what_may_be_in_a_block_nobody_has_here_is_not_done_again(world: World) -> None:
    """A snapshot took the node past the blocks: a channel is left alone, a name is not."""
    await killed_at(world, "after send")
    world.next_block()
    world.chain.send(OWNER, OTHER)
    world.pruned = len(world.chain.made)
    async with world.node() as box:
        await emptied(box)
        assert "may stand in a block that this node has not" in box.ended()[0].how
    assert world.done(STABLE) == 1
    assert dict(world.chain.ledger.view.channels("minilm"))["stable"] == "2.0.0"
    await killed_at(world, "after send", release("3.0.0"), "name:minilm@3.0.0")
    world.next_block()
    world.pruned = len(world.chain.made)
    async with world.node() as box:
        await emptied(box)
    assert world.done(release("3.0.0")) == 1


async def test_refusals_are_told_at_once_and_nothing_is_kept(world: World) -> None:
    for world.is_online in (True, False):
        async with world.node() as box:
            with pytest.raises(TransactionRefused):
                await order(box, SetChannel("minilm", "stable", "9.9.9"))
            assert box.intents() == ()


async def test_same_order_twice_is_one_and_another_takes_its_place(world: World) -> None:
    world.is_online = False
    async with world.node() as box:
        await order(box)
        await order(box)
        assert len(box.intents()) == 1
        await order(box, OTHER)
        assert [each.payload for each in box.intents()] == [encode(OTHER)]
        world.is_online = True
        await emptied(box)
    assert (world.done(STABLE), world.done(OTHER)) == (0, 1)


async def test_order_is_taken_back_before_it_is_sent(world: World) -> None:
    world.is_online = False
    async with world.node() as box:
        await order(box)
        assert not (await box.cancel(KEY)).tx_id
        with pytest.raises(NotFound):
            await box.cancel(KEY)
    world.is_online = True
    async with world.node() as box:
        await emptied(box)
        assert [each.how for each in box.ended()] == ["cancelled"]
    assert world.done(STABLE) == 0


async def test_what_was_sent_is_taken_back_with_its_transaction_named(world: World) -> None:
    """No quorum: it was signed, so it may come into a block still, once; none is signed anew."""
    world.is_quorum = False
    async with world.node() as box, trio.open_nursery() as nursery:
        nursery.start_soon(_given_up, box)
        with trio.fail_after(10):
            while not world.pool:  # noqa: ASYNC110 - the pool tells nobody
                await trio.sleep(0.002)
        gone = await box.cancel(KEY)
    assert gone.tx_id
    world.next_block()
    async with world.node() as box:
        await emptied(box)
    assert world.done(STABLE) == 1


async def _given_up(box: Outbox) -> None:
    with pytest.raises(GivenUp):
        await order(box)


async def test_intent_nobody_wants_any_more_is_over(world: World) -> None:
    world.is_online = False
    async with world.node() as box:
        await box.put("lapse:a", LAPSE, Lapse(bytes(32)), until_ms=world.clock.now_ms + 10)
        world.clock.now_ms += 11
        await emptied(box)
        assert [each.how for each in box.ended()] == ["too_late"]


async def test_what_costs_a_price_of_the_moment_is_not_kept(world: World) -> None:
    async with world.node() as box:
        box.check_now("an offer")
        world.is_online = False
        with pytest.raises(CannotWait, match="0 of 4"):
            box.check_now("an offer")
        with pytest.raises(AssertionError):
            await box.put("pay", TRANSFER, Transfer(0, bytes(32), 1, b""))


async def test_box_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intentbook, "INTENTS_MAX", 2)
    monkeypatch.setattr(intentbook, "ENDED_MAX", 1)
    world.is_online = False
    async with world.node() as box:
        for key in ("a", "b", "b"):
            await box.put(key, LAPSE, Lapse(bytes(32)))
        with pytest.raises(OutboxFull, match="2 intents"):
            await box.put("c", LAPSE, Lapse(bytes(32)))
        for key in ("a", "b"):
            await box.cancel(key)
            world.clock.now_ms += 1
        assert [each.key for each in box.ended()] == ["b"]


async def test_file_of_before_is_read(world: World) -> None:
    """Nodes of schema 1 noted proofs and lapses, under other keys."""
    with sqlite3.connect(world.folder / "outbox.db") as db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        db.execute("PRAGMA user_version=1")
        row = ("x", SET_CHANNEL, encode(STABLE), 1, 0)
        db.execute("INSERT INTO intent VALUES(?,?,?,?,?)", row)
    db.close()
    async with world.node() as box:
        await emptied(box)
    assert world.done(STABLE) == 1


async def test_what_was_given_up_is_not_sent(tmp_path: Path) -> None:
    """Taken back, or replaced, between the wallet's turn and the file's."""
    book = IntentBook(tmp_path / "outbox.db", lambda: 1)
    await book.open()
    try:
        first = await book.put(Intent("a", LAPSE, b"1", 1))
        second = await book.put(Intent("a", LAPSE, b"2", 2))
        with pytest.raises(GivenUp):
            await book.keep(first, b"raw", 1)
        await book.keep(second, b"raw", 1)
        assert await book.end(second, "cancelled")
        assert not await book.end(second, "done")
        with pytest.raises(GivenUp):
            await book.keep(second, b"raw", 1)
        assert [each.how for each in book.ended()] == ["cancelled"]
    finally:
        with trio.CancelScope(shield=True):
            await book.close()  # noqa: ASYNC102 - shielded above


async def test_order_of_a_node_alone_is_in_a_block_once_a_validator_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real nodes on a memory network; the one that orders is no validator."""
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.01)
    cluster = make_cluster(tmp_path, validators=1, others=1)
    async with cluster.node(1) as parts, trio.open_nursery() as nursery:
        driver = parts.driver
        box = Outbox(
            *(tmp_path / "outbox.db", lambda _name: parts.wallet, driver.clock),
            partial(validators_linked, driver),
        )
        await nursery.start(box.run)
        told = await order(box, release("1.0.0"), "name:minilm@1.0.0")
        assert told == "it will be sent when validators answer: none of 1 does now"
        async with cluster.node(0):
            await emptied(box)
        assert driver.ledger.view.release("minilm", "1.0.0") is not None
        nursery.cancel_scope.cancel()
