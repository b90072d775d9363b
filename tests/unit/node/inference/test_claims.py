"""What a worker is owed, when its disk or its wallet fails: the node stays up."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
import trio.testing

from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.claims import Claims
from prsm.node.inference.interface import Chain
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Signer
from prsm.protocol.ids import PeerId
from prsm.protocol.receipts import (
    RECEIPT_VERSION,
    BatchResult,
    Measured,
    WorkKind,
    WorkReceipt,
    sign_receipt,
)
from prsm.storage.errors import StoreUnavailable
from tests.tools.wires import Wire

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
