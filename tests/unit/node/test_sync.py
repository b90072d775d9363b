"""Catching up: who is asked for what, how often a liar is asked, what is served."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Decided, Event, Fetched
from prsm.node.clock import TrioClock
from prsm.node.driver import Driver
from prsm.node.net.interface import CallRefused
from prsm.node.sync import APPLY_SECONDS, DISTRUST_MS, RANGE_SECONDS, Sync, encode_certified
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, encode
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    Certified,
    GetBlockByHash,
    GetBlocks,
    GotBlock,
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
    is_forged: Callable[[Block], bool] = lambda _block: False
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
        if isinstance(event, Decided) and not self.is_forged(event.block):
            self.ledger.height = event.block.header.height

    async def wait_height(self, height: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.ledger.height < height:
            await trio.sleep_forever()


@dataclass
class Stage:
    replica: Replica
    sync: Sync

    def claim(self, peer: PeerId, height: int) -> None:
        if peer not in self.replica.network.live:
            self.replica.network.live.append(peer)
        self.replica.on_status(peer, status(height))

    def asked(self, peer: PeerId) -> int:
        return sum(called == peer for called, _ in self.replica.network.calls)

    def answer(self, peer: PeerId, reply: Callable[[GetBlocks], Record]) -> None:
        async def say(message: Record) -> Record:
            await trio.lowlevel.checkpoint()
            assert isinstance(message, GetBlocks)
            return reply(message)

        self.replica.network.replies[peer] = say


def status(height: int) -> Status:
    return Status(height, 0, bytes(32), 0, 0, 1, None)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    assert trio.current_time() == 0, "the mock clock runs"
    replica = Replica()
    sync = Sync(cast("Driver", replica))
    await nursery.start(sync.run)
    return Stage(replica, sync)


async def test_range_of_the_highest_peer_is_applied_in_order(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Two peers claim 3 and 5: the second is asked from 1, and its five blocks arrive."""
    stage.answer(TWO, lambda ask: blocks(ask.first, 5))
    stage.claim(ONE, 3)
    stage.claim(TWO, 5)
    assert stage.sync.is_syncing
    await trio.sleep(1)
    assert stage.replica.ledger.height == 5
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == [1, 2, 3, 4, 5]
    assert (stage.asked(ONE), stage.asked(TWO)) == (0, 1)
    assert not stage.sync.is_syncing


async def test_gap_of_one_is_left_to_the_votes_for_a_while(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """One block behind: nobody is asked within 0.6 s, then somebody is."""
    stage.answer(ONE, lambda ask: blocks(ask.first, 1))
    stage.claim(ONE, 1)
    await trio.sleep(0.6)
    assert stage.asked(ONE) == 0
    await trio.sleep(0.6)
    assert stage.replica.ledger.height == 1


async def test_silent_peer_is_asked_ever_more_rarely(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Claims much, never answers: 4 questions within 90 s, and an honest one is followed."""

    async def say_nothing(_message: Record) -> Record:
        await trio.sleep_forever()
        raise AssertionError

    stage.replica.network.replies[TWO] = say_nothing
    stage.claim(TWO, 1_000_000)
    await trio.sleep(RANGE_SECONDS + 1)
    assert stage.asked(TWO) == 1
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first))
    stage.claim(ONE, 3)
    await trio.sleep(3)
    assert stage.replica.ledger.height == 3
    await trio.sleep(81)
    assert stage.asked(TWO) == 4
    assert stage.replica.network.penalties == []


async def test_peer_that_cannot_show_its_claim_is_not_asked_for_ten_minutes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Claims 9, has nothing: asked once; its claim makes nobody wait for readiness."""
    stage.answer(ONE, lambda _ask: GotBlocks(blocks=()))
    stage.claim(ONE, 9)
    for _ in range(100):
        await trio.sleep(5)
        stage.claim(ONE, 9)
    assert stage.asked(ONE) == 1
    assert not stage.sync.is_syncing
    await trio.sleep(DISTRUST_MS / 1000)
    assert stage.asked(ONE) == 2


async def test_empty_answer_is_no_proof_when_votes_moved_us_meanwhile(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Our own height grew while a liar answered with nothing: it is distrusted all the same."""

    def answer(_ask: GetBlocks) -> Record:
        stage.replica.ledger.height += 1
        return GotBlocks(blocks=())

    stage.answer(ONE, answer)
    stage.claim(ONE, 1_000)
    await trio.sleep(30)
    assert stage.asked(ONE) == 1


@pytest.mark.parametrize(
    "lie",
    [
        GotBlock(block=None),
        blocks(2, 3),
        GotBlocks(blocks=(b"no block",)),
        GotBlocks(blocks=(encode(Certified(block(1), certified(1, mark=b"x").certificate)),)),
        GotBlocks(
            blocks=(
                encode(
                    Certified(
                        Block(certified(1).block.header, block(1, mark=b"x").body),
                        certified(1).certificate,
                    )
                ),
            )
        ),
    ],
    ids=["kind", "order", "bytes", "certificate", "body"],
)
async def test_answer_no_honest_peer_gives_is_a_fault(
    stage: Stage, autojump_clock: MockClock, lie: Record
) -> None:
    """Another record, another height, garbage, a foreign certificate or body: blamed, not fed."""
    stage.answer(ONE, lambda _ask: lie)
    stage.claim(ONE, 9)
    await trio.sleep(60)
    assert stage.asked(ONE) == 1
    assert [peer for peer, _ in stage.replica.network.penalties] == [ONE]
    assert stage.replica.events == []


async def test_forged_certificate_ends_the_range(stage: Stage, autojump_clock: MockClock) -> None:
    """The replica ignores the first block: after a while no more of this peer is fed or asked."""
    stage.replica.is_forged = lambda _block: True
    stage.answer(ONE, lambda ask: blocks(ask.first, 9))
    stage.claim(ONE, 9)
    await trio.sleep(APPLY_SECONDS + 60)
    assert stage.asked(ONE) == 1
    assert len(stage.replica.events) == 1


async def test_refusal_is_a_pause_without_blame(stage: Stage, autojump_clock: MockClock) -> None:
    """A busy peer is asked again after five seconds."""

    def refuse(_ask: GetBlocks) -> Record:
        raise CallRefused("busy", "its disk is slow", peer=ONE)

    stage.answer(ONE, refuse)
    stage.claim(ONE, 9)
    await trio.sleep(6)
    assert stage.asked(ONE) == 2
    assert stage.replica.network.penalties == []


async def test_halted_node_asks_and_blames_nobody(stage: Stage, autojump_clock: MockClock) -> None:
    """Its own disk refused: peers are not to blame that nothing is applied."""
    stage.replica.is_halted = True
    stage.answer(ONE, lambda ask: blocks(ask.first, 9))
    stage.claim(ONE, 9)
    await trio.sleep(60)
    assert stage.asked(ONE) == 0


async def test_claims_are_bounded(stage: Stage, autojump_clock: MockClock) -> None:
    """1,500 peers claim something: the newest 1,024 are remembered."""
    for number in range(1_500):
        stage.replica.on_status(PeerId(f"peer{number}"), status(number))
        if number % 100 == 0:
            await trio.sleep(0.001)
    assert len(stage.sync._claims) == 1024
    assert PeerId("peer1499") in stage.sync._claims


async def test_body_is_asked_of_its_signers_in_turn(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The first answers another record, the second the block: it is delivered, one is blamed."""
    wanted = block(1)
    replies = {ONE: blocks(1, 1), TWO: GotBlock(block=wanted)}

    def say(peer: PeerId) -> None:
        async def answer(message: Record) -> Record:
            await trio.lowlevel.checkpoint()
            assert isinstance(message, GetBlockByHash)
            return replies[peer]

        stage.replica.network.replies[peer] = answer

    say(ONE)
    say(TWO)
    stage.replica.on_fetch(Fetch(1, 1, block_hash(wanted.header), (0, 1)))
    await trio.sleep(1)
    assert stage.replica.events == [Fetched(wanted)]
    assert [peer for peer, _ in stage.replica.network.penalties] == [ONE]


async def test_body_of_another_hash_is_not_delivered(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A peer answers with a block nobody asked for: nothing is delivered."""

    async def answer(_message: Record) -> Record:
        await trio.lowlevel.checkpoint()
        return GotBlock(block=block(1, mark=b"other"))

    stage.replica.network.replies[ONE] = answer
    stage.replica.on_fetch(Fetch(1, 1, block_hash(block(1).header), (0, 1)))
    await trio.sleep(1)
    assert stage.replica.events == []


def stored(height: int) -> StoredBlock:
    item = certified(height)
    return StoredBlock(
        height, block_hash(item.block.header), encode(item.block), encode(item.certificate), b""
    )


async def test_blocks_are_served_as_they_are_stored(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The answer is what encoding block and certificate together gives, without decoding."""
    stage.replica.store.held = {1: stored(1), 2: stored(2)}
    answer = await stage.replica.network.ask(ONE, GetBlocks(first=1, count=64))
    assert answer == blocks(1, 2)
    assert encode_certified(stored(1).block, stored(1).certificate) == encode(certified(1))


async def test_body_is_served_while_proposed_and_when_committed(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """By hash only: another hash at the same height gets nothing."""
    stage.replica.store.held = {1: stored(1)}
    stage.replica.open_proposal = block(2)
    network = stage.replica.network
    for height, name, expected in (
        (1, block_hash(block(1).header), block(1)),
        (2, block_hash(block(2).header), block(2)),
        (1, bytes(32), None),
        (7, bytes(32), None),
    ):
        answer = await network.ask(ONE, GetBlockByHash(height=height, block_hash=name))
        assert answer == GotBlock(block=expected)
