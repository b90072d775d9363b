"""Snapshots of simulated nodes: made, served, taken as node/chain/snapshots does, in virtual time.

What is believed, and whom a node asks, is the product's own code (`choice`, `evidence`,
`consensus/ledger/chunks`); carrying it is this module's. Knows: claims, calls, one snapshot under
way. Must not know: who lies. A peer whose proof does not hold is never asked again; if it was an
honest one, the run is a violation.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from prsm.consensus.ledger.chunks import Chunk, Pair, cut, firsts, open_chunk
from prsm.consensus.pbft.events import Installed, Waiting
from prsm.consensus.pbft.forgotten import shown_by
from prsm.consensus.pbft.transitions import Phase
from prsm.node.chain.snapshots.choice import BlocksTurn, choose
from prsm.node.chain.snapshots.evidence import Sets, certificates_in, check_snapshot, walk
from prsm.protocol.codec import Record
from prsm.protocol.errors import RemoteError
from prsm.protocol.headers import Block
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import EPOCH_HEADERS_MAX
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    EpochProof,
    GetChunk,
    GetEpochHeaders,
    GetSnapshot,
    Snapshot,
)
from prsm.protocol.proofs import bucket_index
from prsm.storage.errors import Full, StoreUnavailable
from prsm.testnet.sim.invariants import Invariant
from prsm.testnet.sim.money import MoneyLedger
from prsm.testnet.sim.plan import TREE_BITS, index_of, peer_of

if TYPE_CHECKING:
    from prsm.testnet.sim.node import Node

LOOK_MS: Final = 250
STALL_MS: Final = 1_000
BLOCKS_TURN_MS_MAX: Final = 600_000
FAR: Final = 1  # heights behind from which a snapshot is worth more than blocks
CALLS_MAX: Final = 4
KEPT: Final = 2
CHUNK_BYTES: Final = 300  # a state of a few accounts becomes several chunks
Call = GetSnapshot | GetEpochHeaders | GetChunk


class FakeShown(Record, frozen=True):
    """A snapshot's proof, and the height that was asked for: calls have no numbers here."""

    height: int
    proof: Snapshot


class FakeWalk(Record, frozen=True):
    """Epoch headers, and from which epoch on they were asked for."""

    first: int
    epochs: tuple[EpochProof, ...]


class FakeChunk(Record, frozen=True):
    """A chunk as it travels here; in the product it is the tail of a `GotChunk`."""

    height: int
    index: int
    raw: bytes


class FakeRefusal(Record, frozen=True):
    """A call that is not answered: what was asked for is not here, or not any more."""

    height: int


Answer = FakeShown | FakeWalk | FakeChunk | FakeRefusal


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot that is served."""

    proof: Snapshot
    chunks: tuple[bytes, ...]


@dataclass(slots=True)
class Shelf:
    """What a node serves; survives a crash, but for what was in the making."""

    every: int
    offers: dict[int, Offer] = field(default_factory=dict)
    _made: tuple[Block, tuple[Chunk, ...]] | None = None

    @property
    def latest(self) -> int:
        """Height of the latest snapshot, 0 for none."""
        return max(self.offers, default=0)

    def crash(self) -> None:
        """Lose what was in the making."""
        self._made = None

    def wipe(self) -> None:
        """Lose everything."""
        self._made = None
        self.offers.clear()

    def note(self, ledger: MoneyLedger) -> None:
        """A block was executed: publish what the one before it left, cut the state if it is due."""
        block, certificate = ledger.tip.block, ledger.tip.certificate
        assert block is not None
        assert certificate is not None
        height = block.header.height
        before = ledger.block(height - 1)
        if self._made is not None and self._made[0].header.height == height - 1 and before:
            chunks = self._made[1]
            proof = Snapshot(
                header=block.header,
                certificate=certificate,
                block=before[0],
                block_certificate=before[1],
                receipts=ledger.receipts[height - 1],
                chunks=tuple(chunk.head for chunk in chunks),
            )
            self.offers[height - 1] = Offer(proof, tuple(chunk.raw for chunk in chunks))
            for old in sorted(self.offers)[:-KEPT]:
                del self.offers[old]
        self._made = None
        if self.every and height % self.every == 0:
            self._made = block, _chunks_of(tuple(_pairs(ledger.state)))


@dataclass(slots=True)
class _Taking:
    """One snapshot on its way."""

    height: int
    peer: int
    sets: Sets
    epoch: int  # whose headers are asked for
    progress_ms: int
    proof: Snapshot | None = None
    is_proven: bool = False
    missing: list[int] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshots:
    """What one node takes from others and shows them, in one life."""

    node: "Node"
    shelf: Shelf
    claims: dict[PeerId, Status] = field(default_factory=dict)
    liars: set[PeerId] = field(default_factory=set)  # who proved another thing than they claimed
    paused: dict[PeerId, tuple[int, int]] = field(default_factory=dict)  # until when, how long
    stalls: dict[PeerId, int] = field(default_factory=dict)  # calls out of time, in a row
    blocks_turn: BlocksTurn = field(
        default_factory=lambda: BlocksTurn(STALL_MS // 2, BLOCKS_TURN_MS_MAX)
    )
    taking: _Taking | None = None

    @property
    def is_wanted(self) -> bool:
        """Is a snapshot the way forward now? Blocks are not fetched meanwhile."""
        return self.taking is not None or self._choose() is not None

    def _choose(self) -> tuple[PeerId, int] | None:
        # An empty log makes an observer of who takes a snapshot: it counts against the faulty
        # third, so only the node that was drawn to lose its disk does it.
        if self.node.log.is_blank and self.node.index != self.node.world.plan.damaged:
            return None
        state = self.node.state
        assert state is not None
        own = self._ledger.tip.height
        trusted = self._trusted()
        far = self.blocks_turn.far(FAR, self.node.world.timeline.now_ms)
        return choose(own, trusted, settled=state.settled, far=far, stalls=self.stalls)

    def hear(self, sender: int, status: Status) -> None:
        """Note where a peer says it stands."""
        self.claims[PeerId(peer_of(sender))] = status

    def receive(self, sender: int, what: Record) -> None:
        """Take a call or an answer of a peer; anything else is for others."""
        if isinstance(what, Call):
            self._serve(sender, what)
        elif isinstance(what, Answer):
            self._hear_answer(sender, what)

    def _serve(self, sender: int, call: Call) -> None:
        """Answer what a peer asks; what is not here is refused, as a real node does."""
        ledger = self._ledger
        offer = None if isinstance(call, GetEpochHeaders) else self.shelf.offers.get(call.height)
        answer: Record
        match call:
            case GetEpochHeaders(first, count):
                last = max(ledger.epochs, default=-1)
                pages = range(first, min(last + 1, first + count))
                known = [ledger.epochs[each] for each in pages if each in ledger.epochs]
                answer = FakeWalk(first, tuple(known))
            case GetSnapshot() if offer is not None:
                answer = FakeShown(call.height, offer.proof)
            case GetChunk(height, index) if offer is not None and index < len(offer.chunks):
                answer = FakeChunk(height, index, offer.chunks[index])
            case _:
                answer = FakeRefusal(call.height)
        self.node.world.post(self.node.index, sender, answer)

    def look(self) -> None:
        """Begin, ask again, or do nothing, as it is time to."""
        node = self.node
        now_ms = node.world.timeline.now_ms
        taking = self.taking
        if taking is not None:
            if taking.is_proven and not taking.missing:
                self._install(taking)
            elif now_ms - taking.progress_ms >= STALL_MS:
                self._give_up(taking)
            elif taking.is_proven:
                self._ask_chunks(taking)
            return
        choice = self._choose()
        if choice is None:
            return
        epoch = self._ledger.tip.epoch
        config = node.config
        sets = Sets(node.world.genesis, config.verifier, (epoch.validators, epoch.following))
        peer = index_of(choice[0])
        self.taking = _Taking(choice[1], peer, sets, epoch.number, now_ms)
        self._call(peer, GetSnapshot(choice[1]))

    def _hear_answer(self, sender: int, answer: Answer) -> None:
        """Take an answer, if it is one to what was asked."""
        taking = self.taking
        if taking is None:
            return
        try:
            self._take(taking, sender, answer)
        except RemoteError as error:
            self.liars.add(PeerId(peer_of(sender)))
            if self.node.world.checker.is_honest(sender):
                what = f"node {self.node.index} refused the snapshot of honest node {sender}"
                self.node.world.checker.report(Invariant.STATE, f"{what}: {error.what}")
            if not taking.is_proven:
                self.taking = None
            self.look()

    def _take(self, taking: _Taking, sender: int, answer: Answer) -> None:
        match answer:
            case FakeShown(height, proof) if (height, sender) == (taking.height, taking.peer):
                if taking.proof is not None:
                    return
                taking.proof = proof
                self._call(sender, GetEpochHeaders(taking.epoch, EPOCH_HEADERS_MAX))
            case FakeWalk(first, epochs) if (first, sender) == (taking.epoch, taking.peer):
                if taking.proof is None or taking.is_proven:
                    return
                asked = GetEpochHeaders(first, EPOCH_HEADERS_MAX)
                target = taking.proof.header.epoch
                taking.epoch = walk(epochs, asked, target, taking.sets)
                if taking.epoch >= target:
                    self._prove(taking, taking.proof)
            case FakeChunk(height, index, raw) if taking.proof is not None:
                if height == taking.height and index in taking.missing:
                    self._take_chunk(taking, taking.proof, index, raw)
            case FakeRefusal(height) if height == taking.height:
                self._bear_refusal(taking, sender)
            case _:
                pass

    def _bear_refusal(self, taking: _Taking, sender: int) -> None:
        """Leave who has it not; without anybody else, blocks lead on if somebody has them."""
        if taking.is_proven or sender == taking.peer:
            self._pause(PeerId(peer_of(sender)))
        if (taking.is_proven and not self._sources(taking)) or (
            not taking.is_proven and sender == taking.peer
        ):
            self._fail()
            self.look()

    def _prove(self, taking: _Taking, proof: Snapshot) -> None:
        check_snapshot(proof, taking.height, taking.sets, bits=TREE_BITS)
        self.stalls.pop(PeerId(peer_of(taking.peer)), None)
        taking.is_proven = True
        taking.missing = list(range(len(proof.chunks)))
        taking.progress_ms = self.node.world.timeline.now_ms
        self._ask_chunks(taking)

    def _take_chunk(self, taking: _Taking, proof: Snapshot, index: int, raw: bytes) -> None:
        first = firsts(proof.chunks)[index]
        pairs = open_chunk(raw, proof.chunks[index], first=first, bits=TREE_BITS)
        taking.state.update(pairs)
        taking.missing.remove(index)
        taking.progress_ms = self.node.world.timeline.now_ms
        if taking.missing:
            self._ask_chunks(taking)
        else:
            self._install(taking)

    def _distrust(self, proof: Snapshot, sets: Sets) -> str | None:
        state, log = self.node.state, self.node.log  # as node/chain/chain does
        assert state is not None
        for shown in certificates_in(proof, sets):
            if reason := shown_by(state, *shown):
                log.forbid(reason)
                return reason
        return log.forbid_if_blank()

    def _ask_chunks(self, taking: _Taking) -> None:
        sources = self._sources(taking)
        for index in taking.missing[:CALLS_MAX] if sources else ():
            peer = self.node.world.dice.choice(sources)
            self._call(index_of(peer), GetChunk(taking.height, index))

    def _install(self, taking: _Taking) -> None:
        node, ledger = self.node, self._ledger
        assert node.state is not None
        assert taking.proof is not None
        is_paused = node.world.timeline.now_ms < node.paused_until_ms
        if is_paused or node.state.instance.phase in (Phase.EXECUTING, Phase.HALTED):
            return  # the next look finds it
        self.taking = None
        if ledger.tip.height >= taking.height:
            return
        try:
            observer = self._distrust(taking.proof, taking.sets)
        except (Full, StoreUnavailable):
            node.world.die(node)  # half of it may be done: the next start finds an observer
            return
        ledger.install(taking.proof, taking.state, taking.sets.proofs)
        self.blocks_turn.succeed()
        if ledger.tip.state_root != taking.proof.header.state_root:
            what = f"node {node.index} installed another state than certified"
            node.world.checker.report(Invariant.STATE, what)
        node.world.installed(node.index, ledger)
        node.pool = dict.fromkeys(filter(ledger.is_open, node.pool))
        node.witness.settle()
        node.take(Installed(ledger.tip, taking.proof.certificate, observer))
        node.take(Waiting(bool(node.pool or node.witness.waiting)))
        node.sync.feed()

    def _give_up(self, taking: _Taking) -> None:
        """Pause whoever should have answered, so that blocks lead on if somebody has them."""
        asked = self._sources(taking) if taking.is_proven else [PeerId(peer_of(taking.peer))]
        if not taking.is_proven:
            self.stalls[asked[0]] = self.stalls.get(asked[0], 0) + 1
        for peer in asked:
            self._pause(peer)
        self._fail()

    def _fail(self) -> None:
        self.taking = None
        self.blocks_turn.fail(self.node.world.timeline.now_ms)

    def _sources(self, taking: _Taking) -> list[PeerId]:
        trusted = self._trusted()
        return [peer for peer in trusted if trusted[peer].snapshot_height >= taking.height]

    def _pause(self, peer: PeerId) -> None:
        """Silence: it may be busy, or have dropped that snapshot meanwhile; twice as long again."""
        _, last_ms = self.paused.get(peer, (0, STALL_MS // 2))
        self.paused[peer] = self.node.world.timeline.now_ms + 2 * last_ms, 2 * last_ms

    def _trusted(self) -> dict[PeerId, Status]:
        now_ms = self.node.world.timeline.now_ms
        return {
            peer: status
            for peer, status in self.claims.items()
            if peer not in self.liars and self.paused.get(peer, (0, 0))[0] <= now_ms
        }

    def _call(self, peer: int, call: Call) -> None:
        self.node.world.post(self.node.index, peer, call)

    @property
    def _ledger(self) -> MoneyLedger:
        assert isinstance(self.node.ledger, MoneyLedger)
        return self.node.ledger


def _pairs(state: dict[bytes, bytes]) -> list[Pair]:
    """All of a state in the order of its tree."""
    return sorted(state.items(), key=lambda pair: (_bucket_of(pair[0]), pair[0]))


@lru_cache(maxsize=4_096)
def _bucket_of(key: bytes) -> int:
    return bucket_index(key, TREE_BITS)


@lru_cache(maxsize=8)
def _chunks_of(pairs: tuple[Pair, ...]) -> tuple[Chunk, ...]:
    """A state in chunks; the nodes of a run cut the same one within moments of each other."""
    made = cut(pairs, bits=TREE_BITS, size_max=CHUNK_BYTES)
    return tuple(sorted(made, key=lambda chunk: chunk.first))
