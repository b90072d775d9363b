"""A node's models with nothing behind them but a store: ledger, wallet and pool are fakes."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import trio

from prsm.consensus.ledger.records import (
    Model,
    Owner,
    Pointer,
    model_key,
    owner_key,
    version_key,
)
from prsm.consensus.ledger.releases import Versions, versions_key
from prsm.consensus.ledger.view import View
from prsm.node.chain.driver import Driver
from prsm.node.chain.outbox import Outbox, Sent
from prsm.node.chain.wallet import TxResult, Wallet, WalletLocked
from prsm.node.clock import TrioClock
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared, PreparedFile
from prsm.node.models import Models, Tools, Wanted
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer, Signer
from prsm.protocol.ids import TxId
from prsm.protocol.messages.pipe import ModelRefused, PreparedShard
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.storage.cid import hash_block
from prsm.storage.store.model_store import ModelStore
from tests.tools.wires import Wire

TX = TxId(b"t" * 32)
SIGNER = Ed25519Signer(b"w" * 32)


def registered(
    name: str, semver: str, height: int, *, publisher: bytes = SIGNER.public_key
) -> Model:
    """A version of a name; of this room's account, unless said otherwise."""
    return Model(
        manifest=hash_block(f"{name}{semver}".encode()).raw,
        name=name,
        semver=semver,
        pinned_sha256=bytes(32),
        total_bytes=1,
        parents=(),
        publisher=publisher,
        height=height,
    )


@dataclass
class FakeGenesis:
    chain_id: bytes = bytes(8)


@dataclass
class FakeLedger:
    """Models by name, as a state that the ledger's own view reads."""

    named: list[Model] = field(default_factory=list)
    genesis: FakeGenesis = field(default_factory=FakeGenesis)

    @property
    def view(self) -> View:
        state: dict[bytes, bytes] = {}
        for model in self.named:
            state[model_key(model.manifest)] = encode(model)
            state[version_key(model.name, model.semver)] = encode(Pointer(model.manifest))
            state[owner_key(model.name)] = encode(Owner(model.publisher))
        for name in {model.name for model in self.named}:
            semvers = tuple(model.semver for model in self.named if model.name == name)
            state[versions_key(name)] = encode(Versions(name, semvers))
        return View(state)


@dataclass
class FakeDriver:
    ledger: FakeLedger = field(default_factory=FakeLedger)
    clock: TrioClock = field(default_factory=TrioClock)


@dataclass
class FakeWallet:
    """Signs nothing; says what a test wants of the chain."""

    address: bytes = SIGNER.public_key
    locked: bool = False
    code: Code | None = Code.DONE  # None: no block ever
    submitted: list[tuple[int, Record]] = field(default_factory=list)

    @property
    def is_locked(self) -> bool:
        return self.locked

    @property
    def signer(self) -> Signer:
        if self.locked:
            raise WalletLocked("wallet default is locked")
        return SIGNER

    async def submit(self, kind: int, payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        self.submitted.append((kind, payload))
        return TX

    async def wait_committed(self, tx_id: TxId) -> TxResult:
        if self.code is None:
            await trio.sleep_forever()
        assert self.code is not None
        return TxResult(tx_id, 1, 0, TxReceipt(tx_id, self.code, 1, (), 0, 0))


@dataclass
class FakeOutbox:
    """Puts everything into a block at once, if its wallet says that one comes."""

    wallet: FakeWallet

    async def place(
        self,
        key: str,
        kind: int,
        payload: Record,
        *,
        subject: str,
        patience_s: float,
    ) -> Sent:
        assert key.startswith("name:")
        assert subject
        tx_id, result = await self.wallet.submit(kind, payload), None
        with trio.move_on_after(patience_s):
            result = await self.wallet.wait_committed(tx_id)
        return Sent(tx_id, result, "" if result else "in no block yet")


@dataclass
class FakePool:
    """Prepares by writing `files`, or refuses."""

    runtime: str = "runtime"
    layers: tuple[str, ...] = ()
    refuse: ModelRefused | None = None
    files: dict[str, bytes] = field(default_factory=dict)  # the first is the shard
    asked: int = 0

    async def prepare(
        self,
        source: Path,
        *,
        out_dir: Path,
        stages: Sequence[int],
        tokenizer: Path | None,
        sides: Sequence[str] = (),
    ) -> Prepared:
        await trio.lowlevel.checkpoint()
        assert not sides
        self.asked += 1
        assert stages
        assert tokenizer is None
        if self.refuse is not None:
            raise self.refuse
        assert source.suffix == ".onnx"
        if not self.files:
            raise ModelRefused("this pool prepares nothing")
        for name, raw in self.files.items():
            (out_dir / name).write_bytes(raw)
        first, *_ = self.files
        return Prepared(
            out_dir,
            tuple(
                PreparedFile(name, hashlib.sha256(raw).digest(), len(raw))
                for name, raw in self.files.items()
            ),
            (PreparedShard(1, 0, first, first, (), (), 1, 1, ()),),
            None,
            self.runtime,
            "",
            bytes(32),
            bytes(32),
            1,
        )


@dataclass
class Room:
    models: Models
    tools: Tools
    ledger: FakeLedger
    wallet: FakeWallet
    pool: FakePool
    wire: Wire


@asynccontextmanager
async def open_room(folder: Path, **changes: object) -> AsyncIterator[Room]:
    """A room in a folder; `changes` are fields of its tools."""
    driver, wallet, pool, wire = FakeDriver(), FakeWallet(), FakePool(), Wire()
    store = await ModelStore.open(folder / "store", quota=2**24)
    (folder / "scratch").mkdir(exist_ok=True)
    tools = Tools(
        store=store,
        pool=cast("Pool", pool),
        network=wire,
        driver=cast("Driver", driver),
        wallet=cast("Wallet", wallet),
        outbox=cast("Outbox", FakeOutbox(wallet)),
        scratch=folder / "scratch",
    )
    tools = replace(tools, **changes)  # type: ignore[arg-type]  # fields by name
    try:
        yield Room(Models(tools), tools, driver.ledger, wallet, pool, wire)
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


def wanted(path: Path, **changes: object) -> Wanted:
    plain = Wanted(path, "encoder", "1.0.0", (1,), None, "MIT", register=True)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name
