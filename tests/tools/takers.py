"""A taker of snapshots on a stage: peers that answer as a test says, and what it sees of a node."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, TypeVarTuple, cast

import pytest
import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.consensus.pbft.events import Event
from prsm.node.chain.driver import Driver
from prsm.node.chain.snapshots.evidence import Shown
from prsm.node.chain.snapshots.take import Ground, Taker
from prsm.node.clock import TrioClock
from prsm.node.net.interface import Answer, CallRefused
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    EpochProof,
    GetChunk,
    GetEpochHeaders,
    GetSnapshot,
    GotEpochHeaders,
    SnapshotMeta,
)
from prsm.storage.errors import Full
from prsm.storage.ledger import EpochHeader, StoredBlock
from prsm.storage.snapshots import SnapshotFiles
from prsm.testnet.chain import small_genesis
from tests.tools.offers import Offer, offer
from tests.tools.wires import Wire

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ONE, TWO = PeerId("one"), PeerId("two")
FAR = 3


@dataclass
class Store:
    """Takes an installed state, or has no room for it."""

    installed: list[StoredBlock] = field(default_factory=list)
    epochs: list[EpochHeader] = field(default_factory=list)
    is_full: bool = False

    async def install(
        self, block: StoredBlock, *, state: Mapping[bytes, bytes], epochs: Sequence[EpochHeader]
    ) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise Full("no room")
        assert state
        self.installed.append(block)
        self.epochs.extend(epochs)


@dataclass
class Pool:
    """Counts how often its transactions were held against a new state."""

    rechecked: int = 0

    def recheck(self) -> None:
        self.rechecked += 1


@dataclass
class Standing:
    """What a taker sees of a replica: nobody has claimed anything that is certain."""

    settled: int = 0


@dataclass
class Replica:
    """What a taker sees of a driver; it runs errands at once."""

    network: Wire = field(default_factory=Wire)
    clock: TrioClock = field(default_factory=TrioClock)
    store: Store = field(default_factory=Store)
    mempool: Pool = field(default_factory=Pool)
    ledger: Ledger = field(
        default_factory=lambda: Ledger(small_genesis(), {}, verifier=Ed25519Verifier(), tip=None)
    )
    state: Standing = field(default_factory=Standing)
    is_halted: bool = False
    held: tuple[int, int] = (0, 1)
    events: list[Event] = field(default_factory=list)
    errand: Callable[[], Awaitable[Event]] | None = None
    heard: list[PeerId] = field(default_factory=list)

    def on_status(self, peer: PeerId, status: Status) -> None:
        assert status.height >= 0
        self.heard.append(peer)

    async def work(self) -> None:
        while True:
            if self.errand is not None:
                errand, self.errand = self.errand, None
                self.events.append(await errand())
            await trio.sleep(0.01)


def rebuild(state: dict[bytes, bytes], tip: LedgerTip) -> Ledger:
    return Ledger(small_genesis(), state, verifier=Ed25519Verifier(), tip=tip)


@dataclass
class Stage:
    replica: Replica
    taker: Taker
    files: SnapshotFiles
    made: Offer
    distrust: str | None = "a blank log"
    guard_is_full: bool = False
    shown: Shown = ()
    asked: list[tuple[PeerId, Record]] = field(default_factory=list)

    def wants(self) -> bool:
        return self.taker.is_wanted

    def claim(self, peer: PeerId, snapshot: int, *, height: int = 0, first: int = 1) -> None:
        if peer not in self.replica.network.live:
            self.replica.network.live.append(peer)
        status = Status(max(height, snapshot + 1), 0, bytes(32), 0, snapshot, first, None)
        self.replica.on_status(peer, status)

    def answer(self, peer: PeerId, say: Callable[[Record], Awaitable[Record | Answer]]) -> None:
        async def reply(message: Record) -> Record | Answer:
            self.asked.append((peer, message))
            return await say(message)

        self.replica.network.replies[peer] = reply

    async def honest(self, ask: Record) -> Record | Answer:
        await trio.lowlevel.checkpoint()
        match ask:
            case GetSnapshot() if ask.height == self.made.height:
                return SnapshotMeta(height=ask.height), encode(self.made.found)
            case GetSnapshot():
                raise CallRefused("not_found", "no such snapshot", peer="")
            case GetEpochHeaders():
                return GotEpochHeaders(epochs=(self.proof,))
            case GetChunk():
                return self.made.chunk(ask)
            case _:
                raise AssertionError(ask)

    @property
    def proof(self) -> EpochProof:
        """Epoch 0 by the header after the snapshot; any header of an epoch will do."""
        members = self.made.genesis.first_validators().members
        return EpochProof(self.made.found.header, self.made.found.certificate, members)

    def count(self, peer: PeerId, cls: type[Record]) -> int:
        return sum(who == peer and isinstance(ask, cls) for who, ask in self.asked)


async def inline(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """A thread of no time: the jumping clock would run ahead of a real one."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)


async def stage_of(nursery: trio.Nursery, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A taker that runs, beside a replica that runs its errands; nobody is linked yet."""
    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    replica = Replica()
    files = SnapshotFiles(folder / "snapshots")

    async def distrust_log(certificates: Shown) -> str | None:
        await trio.lowlevel.checkpoint()
        made.shown = certificates
        if made.guard_is_full:
            raise Full("no room")
        return made.distrust

    ground = Ground(cast("Driver", replica), files, FAR, rebuild, distrust_log)
    made = Stage(replica, Taker(ground), files, offer())
    await nursery.start(made.taker.run)
    nursery.start_soon(replica.work)
    return made


async def taken(stage: Stage) -> None:
    with trio.fail_after(200):
        while not stage.taker.taken:  # noqa: ASYNC110 - it has no event for tests
            await trio.sleep(0.05)
