"""Three honest validators in memory around a fourth whose disk is under test.

The real replica and the real ledger, stepped one message at a time in virtual milliseconds. They
never crash, so what they heard of the fourth is what a client could hear. Knows: pbft, the ledger.
Must not know: how the fourth is run.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.effects import (
    Broadcast,
    Effect,
    Execute,
    Fetch,
    NeedPayload,
    Send,
    Validate,
)
from prsm.consensus.pbft.events import (
    Applied,
    Decided,
    Draft,
    Event,
    Fetched,
    Heard,
    Payload,
    Received,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.tip import Tip
from prsm.consensus.pbft.transitions import Phase
from prsm.node.chain.mempool import Accounts, Mempool
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.messages.sync import (
    Certified,
    GetBlockByHash,
    GetBlocks,
    GotBlock,
    GotBlocks,
)
from prsm.protocol.transactions.envelope import decode_transaction

VICTIM: Final = 0
_BODY_BYTES: Final = 200_000
_COUNT: Final = 50
_Tell = Callable[[int, Record], None]  # sender's index, what it says


class Peer:
    """One of the three."""

    def __init__(self, peers: "Peers", index: int, seed: bytes) -> None:
        self._peers = peers
        self.index = index
        self.ledger = Ledger(peers.genesis, {}, verifier=Ed25519Verifier(), tip=None)
        config = Config.of(
            peers.genesis, signers=(Ed25519Signer(seed),), verifier=Ed25519Verifier()
        )
        tip = Tip.genesis(
            peers.genesis,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
        )
        self.state = replica.start(config, tip, (), None)
        self.blocks: list[Certified] = []
        self.mempool = Mempool(Accounts(self.ledger.view.nonce, self.ledger.view.account))

    def take(self, event: Event) -> None:
        """Step, and do what is ordered, until there is nothing left of its own to do."""
        own: deque[Event] = deque([event])
        while own:
            effects = replica.step(self.state, own.popleft(), self._peers.now_ms)
            for effect in effects:
                own.extend(self._do(effect))

    def _do(self, effect: Effect) -> list[Event]:
        match effect:
            case Broadcast(message=message):
                for to in range(4):
                    self._peers.post(self.index, to, message)
            case Send(peer=peer, message=message):
                self._peers.post(self.index, self._peers.ids.index(peer), message)
            case NeedPayload(height=height, view=view):
                return [Payload(height, view, self._draft())]
            case Validate(block=block, block_hash=digest):
                return [Verdict(digest, self.ledger.judge(block, wall_ms=None) is None)]
            case Execute():
                return [self._execute(effect), Waiting(len(self.mempool) > 0)]
            case Fetch():
                return self._fetch(effect)
            case _:
                pass
        return []

    def _draft(self) -> Draft:
        time_ms = max(self.ledger.tip.time_ms + 1, self._peers.wall_ms())
        chosen = self.ledger.select(
            self.mempool.ready(_COUNT), time_ms=time_ms, bytes_max=_BODY_BYTES, count_max=_COUNT
        )
        return Draft(transactions=chosen, evidence=(), time_ms=time_ms)

    def _execute(self, decided: Execute) -> Applied:
        outcome = self.ledger.apply(decided.block)
        self.ledger.commit(outcome)
        self.blocks.append(Certified(block=decided.block, certificate=decided.certificate))
        senders = {decode_transaction(raw).sender for raw in decided.block.body.transactions}
        self.mempool.drop_committed(outcome.tx_ids, senders)
        return Applied(
            height=decided.block.header.height,
            block_hash=decided.block_hash,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
            epoch=self.ledger.epoch,
        )

    def _fetch(self, fetch: Fetch) -> list[Event]:
        if fetch.block_hash is not None:
            block = self._peers.body(fetch.first, fetch.block_hash)
            return [] if block is None else [Fetched(block)]
        height = self.ledger.height + 1
        for peer in self._peers.all:
            if len(peer.blocks) >= height:
                item = peer.blocks[height - 1]
                return [Decided(item.block, item.certificate)]
        return []


@dataclass
class Peers:
    """The three, their clock, and what is on its way between them and to the fourth."""

    genesis: Genesis
    seeds: list[bytes]  # of all four consensus keys
    dice: Random
    wall_ms: Callable[[], int]
    tell: _Tell = lambda _sender, _message: None  # how the fourth hears
    now_ms: int = 1_000
    muted: int | None = None  # a peer nobody hears: then the fourth's votes are needed
    deaf: bool = False  # the fourth hears nothing: it will see certificates before their blocks
    all: list[Peer] = field(init=False)
    _queue: deque[tuple[int, int, SignedMessage]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.all = [Peer(self, index, self.seeds[index]) for index in (1, 2, 3)]

    @property
    def ids(self) -> list[str]:
        """Peer ids of all four, in order of their index."""
        return [validator.peer_id for validator in self.genesis.validators]

    @property
    def height(self) -> int:
        """The highest block any of them has."""
        return max(peer.ledger.height for peer in self.all)

    @property
    def waiting(self) -> int:
        """Transactions that some of them have not seen in a block."""
        return max(len(peer.mempool) for peer in self.all)

    def submit(self, raw: bytes) -> None:
        """A client's transaction reaches all of them."""
        transaction = decode_transaction(raw)
        for peer in self.all:
            try:
                peer.mempool.add(raw, transaction, self.wall_ms())
            except PrsmError:
                continue
            peer.take(Waiting(transactions=True))

    def hear(self, message: Record) -> None:
        """The fourth said something to one of them; all hear its votes, as it broadcasts them."""
        if isinstance(message, SignedMessage):
            opened = open_message(message)
            for peer in self.all:
                if peer.index != self.muted:
                    peer.take(Received(opened))
        elif isinstance(message, Status):
            for peer in self.all:
                peer.take(Heard(self.ids[VICTIM], message))

    def hear_one(self, to: int, message: Record) -> None:
        """The fourth said something to one of them only."""
        if to == self.muted:
            return
        if isinstance(message, SignedMessage):
            self.all[to - 1].take(Received(open_message(message)))
        elif isinstance(message, Status):
            self.all[to - 1].take(Heard(self.ids[VICTIM], message))

    def post(self, sender: int, to: int, message: SignedMessage) -> None:
        """Put a message on its way; a muted peer is neither heard nor hears."""
        if to != sender and self.muted not in (sender, to):
            self._queue.append((sender, to, message))

    def advance(self, ms: int) -> None:
        """Let time pass for all of them."""
        self.now_ms += ms
        for peer in self.all:
            peer.take(Tick())

    def pump(self, limit: int) -> int:
        """Deliver at most so many messages; how many are left."""
        while self._queue and limit > 0:
            limit -= 1
            sender, to, message = self._queue.popleft()
            if to == VICTIM:
                if not self.deaf:
                    self.tell(sender, message)
            else:
                self.all[to - 1].take(Received(open_message(message)))
        return len(self._queue)

    def status(self, index: int) -> Status:
        """What a peer says of itself and of the fourth's votes."""
        return statuses.status_for(self.all[index - 1].state, self.ids[VICTIM])

    def greet(self) -> None:
        """All of them tell one another and the fourth where they stand."""
        for peer in self.all:
            for other in self.all:
                if peer is not other:
                    status = statuses.status_for(peer.state, self.ids[other.index])
                    other.take(Heard(self.ids[peer.index], status))
            self.tell(peer.index, self.status(peer.index))

    def answer(self, ask: Record) -> Record:
        """Serve blocks to the fourth as any node does."""
        if isinstance(ask, GetBlocks):
            longest = max(self.all, key=lambda peer: peer.ledger.height)
            found = longest.blocks[ask.first - 1 : ask.first - 1 + ask.count]
            return GotBlocks(blocks=tuple(encode(item) for item in found))
        assert isinstance(ask, GetBlockByHash)
        return GotBlock(block=self.body(ask.height, ask.block_hash))

    def body(self, height: int, digest: bytes) -> Block | None:
        """A block that is proposed or committed somewhere."""
        for peer in self.all:
            found = replica.body(peer.state, height, digest)
            if found is None and height <= len(peer.blocks):
                found = peer.blocks[height - 1].block
            if found is not None and block_hash(found.header) == digest:
                return found
        return None

    def is_stuck(self) -> bool:
        """Did any of them stop for a contradiction?"""
        return any(peer.state.instance.phase is Phase.HALTED for peer in self.all)
