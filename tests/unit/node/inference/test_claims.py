"""What a worker is owed, when its disk or its wallet fails: the node stays up."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock
from typing_extensions import override

from prsm.consensus.ledger.audit_records import Pledged, pledged_key
from prsm.consensus.ledger.records import Job
from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.claims import Claims
from prsm.node.inference.earned import ended_of
from prsm.node.inference.interface import Chain, MemoryReceipts
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Signer
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import FTNS, PeerId, TxId
from prsm.protocol.receipts import (
    RECEIPT_VERSION,
    BatchResult,
    Measured,
    WorkKind,
    WorkReceipt,
    sign_receipt,
)
from prsm.protocol.transactions.payloads import COMMIT, LOCK, Lock, Unit
from prsm.storage.earnings import Ended
from prsm.storage.errors import StoreUnavailable
from tests.tools.wires import Wire
from tests.tools.work_chain import FUNDS, MemoryChain, World

KEY = Ed25519Signer(b"w" * 32)


@dataclass
class Files:
    """Receipts as a disk has them; it may refuse to let one go."""

    kept: list[bytes] = field(default_factory=list)
    drops: int = 0

    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        await trio.lowlevel.checkpoint()
        assert job
        assert unit >= 0
        self.kept.append(receipt)

    async def drop(self, job: bytes, unit: int) -> None:
        await trio.lowlevel.checkpoint()
        self.drops += 1
        raise StoreUnavailable(f"receipt {job.hex()[:4]} {unit} stays: read-only file system")

    async def load(self) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        return self.kept


class LockedChain:
    """A ledger without jobs, and a payment key nobody opened."""

    chain_id = b"testnet1"
    address = KEY.public_key

    @property
    def signer(self) -> Signer:
        raise WalletLocked("wallet default is locked", hint="type: prsm wallet unlock")

    def height(self) -> int:
        return 1

    def block_time_ms(self) -> int:
        return 1

    async def wait_height(self, _height: int) -> None:
        await trio.sleep_forever()

    def bound(self) -> tuple[tuple[bytes, int], ...]:
        return ()

    def job(self, _job: bytes) -> None:
        return None

    def committed(self, _job: bytes, _unit: int, _worker: bytes) -> None:
        return None

    async def submit(self, _kind: int, _payload: object) -> bytes:
        await trio.lowlevel.checkpoint()
        _ = self.signer
        raise AssertionError

    async def wait_committed(self, _tx: bytes) -> None:
        raise AssertionError("nothing was submitted")


def receipt() -> WorkReceipt:
    return WorkReceipt(
        version=RECEIPT_VERSION,
        chain_id=LockedChain.chain_id,
        job=b"j" * 32,
        unit=0,
        kind=WorkKind.INFER,
        worker=KEY.public_key,
        model=bytes(36),
        stages=1,
        stage=0,
        class_id=bytes(32),
        batches=(BatchResult(0, 1, bytes(32), bytes(32), bytes(32)),),
        measured=Measured(0, 1, 0, 0),
        price_per_row=1,
        started_height=1,
        ended_height=1,
        signature=bytes(64),
    )


def claims_of(files: Files) -> Claims:
    return Claims(Wire(), cast("Chain", LockedChain()), files, Ed25519Verifier())


async def test_locked_wallet_is_a_typed_refusal() -> None:
    """A receipt cannot be signed: the executor hears why, and nothing is kept."""
    files = Files()
    with pytest.raises(WalletLocked):
        await claims_of(files).add(receipt())
    assert files.kept == []


async def test_damaged_receipt_does_not_keep_the_node_down(nursery: trio.Nursery) -> None:
    """One file is garbage: the other one is taken up, and its locked commitment is only logged."""
    good = encode((sign_receipt(receipt(), KEY), ()))
    claims = claims_of(Files([b"garbage", good]))
    await nursery.start(claims.run)
    await trio.testing.wait_all_tasks_blocked()
    assert len(claims._claims) <= 1


async def test_disk_that_keeps_a_paid_receipt_does_not_stop_the_watch(
    nursery: trio.Nursery,
) -> None:
    """The job is over and its file cannot be removed: said once, and the room runs on."""
    files = Files([encode((sign_receipt(receipt(), KEY), ()))])
    claims = claims_of(files)
    await nursery.start(claims.run)
    await trio.testing.wait_all_tasks_blocked()
    assert files.drops == 1
    assert claims._claims == {}


async def test_locked_wallet_does_not_end_the_room_when_a_unit_is_settled_alone() -> None:
    """Asking a co-worker needs a signature: without one there is no answer, and no crash."""
    claims = claims_of(Files())
    signed = sign_receipt(receipt(), KEY)
    assert await claims._ask(claims._take_up(signed), b"o" * 32, PeerId("peer")) == []


def locked(world: World) -> bytes:
    """A job that nobody compares, done by account 1 for account 0; its id."""
    job = b"l" * 32
    unit = Unit(
        kind=WorkKind.INFER,
        model=bytes(36),
        stages=1,
        stage=0,
        first=0,
        count=1,
        needed=1,
        price_per_row=1_000,
        rates=None,
        workers=(MemoryChain(world, 1).address,),
    )
    deadline_ms = world.time_ms + 600_000
    lock = Lock(job, b"", FTNS, None, (1,), (unit,), 0, (), deadline_ms, is_open_ended=False)
    world.submit(MemoryChain(world, 0).address, LOCK, lock)
    world.make_block()
    return job


def due(chain: MemoryChain, job: bytes) -> WorkReceipt:
    """What the account did for it."""
    return msgspec.structs.replace(
        receipt(),
        chain_id=chain.chain_id,
        job=job,
        worker=chain.address,
        price_per_row=1_000,
        started_height=chain.height(),
    )


class Refusing(MemoryChain):
    """A wallet that cannot send: no validator is linked."""

    refuses = True

    @override
    async def submit(self, kind: int, payload: Record) -> TxId:
        if self.refuses:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("no validator takes it now")
        return await super().submit(kind, payload)


@pytest.mark.parametrize("why", ["no pledge", "no validator"])
async def test_commitment_that_failed_is_tried_again_and_paid(
    why: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its bond was held by another unit, or no block took it; and its requester is gone.

    Without another try the work would be paid only if the node were started again in time.
    """
    world = World(bond=0 if why == "no pledge" else FUNDS)
    chain = Refusing(world, 1)
    chain.refuses = why == "no validator"
    await nursery.start(world.run)
    job = locked(world)
    made = due(chain, job)
    ends: list[Ended] = []

    async def note(ours: WorkReceipt, found: Job | None) -> None:
        await trio.lowlevel.checkpoint()
        ends.append(ended_of(ours, found, height=0, time_ms=0))

    claims = Claims(Wire(), chain, MemoryReceipts(), Ed25519Verifier(), on_over=note)
    await nursery.start(claims.run)
    claim = await claims.add(made)
    assert [one.unit for one in claims.unpaid] == [0]
    with pytest.raises(PrsmError):
        await claims.show(claim)
    assert chain.committed(job, 0, chain.address) is None
    await trio.sleep(60)
    tries = len([kind for kind, _, _ in world.executed if kind == COMMIT])
    assert tries == (why == "no pledge"), "a refusal costs a fee: not again before it can succeed"
    chain.refuses = False
    world.state[pledged_key(chain.address)] = encode(Pledged(amount=FUNDS, held=0))
    before = world.balance(chain.address)
    with trio.fail_after(400):
        while (found := chain.job(job)) is None or found.is_open:
            await chain.wait_height(chain.height() + 1)
    assert world.balance(chain.address) - before == 950
    assert await claims.show(claim) == encode(claim.receipt)
    await trio.testing.wait_all_tasks_blocked()
    assert [(one.paid, one.wrong, one.is_counted) for one in ends] == [(950, 0, True)]
    assert claims.unpaid == ()


async def claiming(nursery: trio.Nursery) -> tuple[World, MemoryChain, Claims]:
    """Account 1, whose receipts are settled by itself."""
    world = World()
    chain = MemoryChain(world, 1)
    await nursery.start(world.run)
    claims = Claims(Wire(), chain, MemoryReceipts(), Ed25519Verifier())
    await nursery.start(claims.run)
    return world, chain, claims


async def assert_paid(chain: MemoryChain, job: bytes) -> None:
    with trio.fail_after(400):
        while (found := chain.job(job)) is None or found.is_open:
            await chain.wait_height(chain.height() + 1)
    [verdict] = found.verdicts
    assert verdict is not None
    assert [opinion.paid for opinion in verdict.opinions] == [950]


async def test_first_receipt_of_a_unit_stays(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It is bound: with another one on the disk there would be nothing to show."""
    world, chain, claims = await claiming(nursery)
    made = due(chain, locked(world))
    claim = await claims.add(made)
    await claims.show(claim)
    other = msgspec.structs.replace(made.batches[0], output_root=b"o" * 32)
    later = msgspec.structs.replace(made, batches=(other,), ended_height=2)
    assert await claims.add(later) is claim
    assert await claims._store.load() == (encode((claim.receipt, ())),)
    await assert_paid(chain, made.job)


@pytest.mark.parametrize("is_asked_again", [False, True])
async def test_commitment_that_a_block_took_too_late_is_paid(
    is_asked_again: bool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """No block for over a minute: the wait ends, the transaction is valid all the same."""
    world, chain, claims = await claiming(nursery)
    made = due(chain, locked(world))
    world.block_s = 70.0
    await trio.sleep(0.1)
    claim = await claims.add(made)
    with pytest.raises(PrsmError, match="no block took"):
        await claims.show(claim)
    if is_asked_again:
        assert await claims.add(msgspec.structs.replace(made, ended_height=9)) is claim
    world.block_s = 0.05
    await assert_paid(chain, made.job)


async def test_receipt_is_not_shown_while_a_failed_commitment_is_tried_again(
    nursery: trio.Nursery,
) -> None:
    """The failure wakes who waits; by the time it looks, the receipt may be queued again."""
    claims, shown = claims_of(Files()), list[bytes]()
    claim = claims._take_up(sign_receipt(receipt(), KEY))

    async def show() -> None:
        shown.append(await claims.show(claim))

    nursery.start_soon(show)
    await trio.testing.wait_all_tasks_blocked()
    claims._fail(claim, StoreUnavailable("no validator takes it now"))
    claims._queue(claim)
    await trio.testing.wait_all_tasks_blocked()
    assert shown == []
    claims._note([claim], None)
    await trio.testing.wait_all_tasks_blocked()
    assert shown == [encode(claim.receipt)]


async def test_who_waits_for_a_commitment_is_answered_where_the_part_began_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """What was on its way in a crash was taken up anew, and who had asked waited for ever."""
    world = World()
    chain, shown = MemoryChain(world, 1), list[bytes]()
    await nursery.start(world.run)
    claims = Claims(Wire(), chain, MemoryReceipts(), Ed25519Verifier())
    made = due(chain, locked(world))

    async def show() -> None:
        shown.append(await claims.show(claim))

    async with trio.open_nursery() as crashing:
        await crashing.start(claims.run)
        claim = await claims.add(made)
        nursery.start_soon(show)
        await trio.testing.wait_all_tasks_blocked()
        crashing.cancel_scope.cancel()
    await nursery.start(claims.run)
    await trio.sleep(10)
    assert shown == [encode(claim.receipt)]
    assert await claims.add(made) is claim
