"""A `Sync` over a replica and peers that do what a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import trio

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Decided, Event
from prsm.node.chain.driver import Driver
from prsm.node.chain.sync import Sync
from prsm.node.clock import TrioClock
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import BadSignature
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    Certified,
    GetBlocks,
    GotBlocks,
)
from prsm.protocol.signing import Kind
from prsm.storage.ledger import StoredBlock
from tests.tools.wires import Wire

ONE, TWO = PeerId("one"), PeerId("two")


def block(height: int, *, mark: bytes = b"") -> Block:
    """A block whose header commits to its body; who agreed on it is not asked here."""
    body = Body(prev_cert=None, evidence=(), transactions=(mark,))
    header = Header(
        version=1,
        chain_id=bytes(8),
        height=height,
        view=0,
        epoch=0,
        prev_hash=bytes(32),
        prev_cert_hash=bytes(32),
        tx_root=merkle.root(body.transactions),
        state_root=bytes(32),
        receipts_root=bytes(32),
        validators_hash=bytes(32),
        next_validators_hash=bytes(32),
        evidence_root=merkle.root(()),
        time_ms=height,
        proposer=0,
    )
    return Block(header, body)


def certified(height: int, *, mark: bytes = b"") -> Certified:
    found = block(height, mark=mark)
    digest = block_hash(found.header)
    certificate = Certificate(1, Kind.COMMIT, 0, height, 0, digest, 1, (bytes(64),))
    return Certified(found, certificate)


def blocks(first: int, last: int) -> GotBlocks:
    return GotBlocks(blocks=tuple(encode(certified(h)) for h in range(first, last + 1)))


def is_marked(item: Certified) -> bool:
    return item.block.body.transactions == (b"forged",)


def forged(ask: GetBlocks, *, first: int) -> GotBlocks:
    """What was asked for, from `first` on with other bodies under certificates that do not hold."""
    heights = range(ask.first, ask.first + ask.count)
    marks = [b"forged" if height >= first else b"" for height in heights]
    pairs = zip(heights, marks, strict=True)
    return GotBlocks(blocks=tuple(encode(certified(h, mark=mark)) for h, mark in pairs))


@dataclass
class Validator:
    peer_id: str


@dataclass
class Set:
    validators: tuple[Validator, ...] = (Validator(ONE), Validator(TWO))


@dataclass
class Tip:
    height: int = 0


@dataclass
class Store:
    held: dict[int, StoredBlock] = field(default_factory=dict)

    async def blocks(self, first: int, last: int, *, bytes_max: int) -> list[StoredBlock]:
        await trio.lowlevel.checkpoint()
        assert bytes_max > 0
        return [self.held[h] for h in range(first, last + 1) if h in self.held]

    async def block(self, height: int) -> StoredBlock | None:
        await trio.lowlevel.checkpoint()
        return self.held.get(height)


@dataclass
class Replica:
    """What `Sync` sees of a driver; it applies the next block, unless a test says it is forged."""

    network: Wire = field(default_factory=Wire)
    clock: TrioClock = field(default_factory=TrioClock)
    store: Store = field(default_factory=Store)
    ledger: Tip = field(default_factory=Tip)
    validators: Set = field(default_factory=Set)
    is_halted: bool = False
    held: tuple[int, int] = (0, 1)
    is_forged: Callable[[Certified], bool] = lambda _item: False
    apply_s: float = 0
    due: float = 0
    events: list[Event] = field(default_factory=list)
    on_status: Callable[[PeerId, Status], None] = lambda _peer, _status: None
    on_fetch: Callable[[Fetch], None] = lambda _fetch: None
    open_proposal: Block | None = None

    def proposed(self, height: int, name: bytes) -> Block | None:
        found = self.open_proposal
        if found is None or (found.header.height, block_hash(found.header)) != (height, name):
            return None
        return found

    def deliver(self, event: Event) -> None:
        self.events.append(event)

    async def deliver_waiting(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)
        is_next = isinstance(event, Decided) and event.block.header.height == self.ledger.height + 1
        if is_next and self.due <= trio.current_time():
            self.due = trio.current_time() + self.apply_s

    async def wait_height(self, height: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.ledger.height < height:
            await trio.sleep_until(self.due)
            self.ledger.height = height

    def check(self, item: Certified) -> None:
        assert item.block.header.height == self.ledger.height + 1
        if self.is_forged(item):
            raise BadSignature("signature of validator 0", penalty=100)


@dataclass
class Stage:
    replica: Replica
    sync: Sync
    running: dict[PeerId, int] = field(default_factory=dict)

    def claim(self, peer: PeerId, height: int) -> None:
        if peer not in self.replica.network.live:
            self.replica.network.meet(peer)
        self.replica.on_status(peer, status(height))

    def asked(self, peer: PeerId) -> int:
        return sum(called == peer for called, _ in self.replica.network.calls)

    def open_calls(self, peer: PeerId) -> int:
        return self.running.get(peer, 0)

    def answer(
        self, peer: PeerId, reply: Callable[[GetBlocks], Record], *, after_s: float = 0
    ) -> None:
        async def say(message: Record) -> Record:
            self.running[peer] = self.running.get(peer, 0) + 1
            try:
                await trio.sleep(after_s)
            finally:
                self.running[peer] -= 1
            assert isinstance(message, GetBlocks)
            return reply(message)

        self.replica.network.replies[peer] = say

    def be_silent(self, peer: PeerId) -> None:
        async def say_nothing(_message: Record) -> Record:
            await trio.sleep_forever()
            raise AssertionError

        self.replica.network.replies[peer] = say_nothing


def status(height: int, *, tip: bytes = bytes(32), first: int = 1) -> Status:
    return Status(height, 0, tip, 0, 0, first, None)


async def open_stage(nursery: trio.Nursery, *, runs: bool = True) -> Stage:
    """Sync runs, if it is to; the clock is a test's."""
    assert trio.current_time() == 0, "the mock clock runs"
    replica = Replica()
    sync = Sync(cast("Driver", replica), check=replica.check)
    if runs:
        await nursery.start(sync.run)
    return Stage(replica, sync)
