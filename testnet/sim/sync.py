"""Blocks from peers, as node/chain/sync gets them: one range at a time, then another peer.

Who did not answer until the core asked again is asked last from then on, and of those the one whose
silence is longest ago: a peer that claims much and drips would otherwise be asked each time.

Knows: who was asked for what. Must not know: how a block is judged; the core believes
certificates only.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prsm.consensus.pbft import replica
from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Decided, Fetched
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import (
    Certified,
    GetBlockByHash,
    GetBlocks,
    GotBlock,
    GotBlocks,
)
from prsm.testnet.sim.plan import index_of

if TYPE_CHECKING:
    from prsm.testnet.sim.node import Node


@dataclass(slots=True)
class Sync:
    """What one node asks of others, in one life."""

    node: "Node"
    backlog: dict[int, Certified] = field(default_factory=dict)
    last: int = 0  # of the range that was asked for
    useless: set[int] = field(default_factory=set)  # peers; looked up, never iterated
    slow: dict[int, None] = field(default_factory=dict)  # peers, the latest silence last
    asked: int | None = None  # for a range; None once it answered
    wanted: GetBlockByHash | None = None  # a body
    holders: list[int] = field(default_factory=list)  # of it, who are not asked yet

    def ask(self, fetch: Fetch) -> None:
        """Ask one of the peers an order names."""
        if self.node.snapshots is not None and self.node.snapshots.is_wanted:
            return  # a snapshot is on its way; the core asks again
        if fetch.block_hash is not None:
            wanted = GetBlockByHash(fetch.first, fetch.block_hash)
            if self.wanted != wanted or not self.holders:
                self.wanted = wanted
                self.holders = [index_of(name) for name in fetch.peers]
            self._ask_body()  # the next one: the core asks again where one was silent
            return
        self.useless.clear()
        if self.asked is not None:
            self.slow.pop(self.asked, None)
            self.slow[self.asked] = None
        self.last = fetch.last
        self._ask_range([index_of(name) for name in fetch.peers])

    def serve(self, sender: int, call: GetBlocks | GetBlockByHash) -> None:
        """Answer what a peer asks."""
        answer: Record
        if isinstance(call, GetBlockByHash):
            answer = GotBlock(self._body(call.height, call.block_hash))
        else:
            ledger = self.node.ledger
            last = min(call.first + call.count - 1, ledger.tip.height)
            heights = range(call.first, last + 1) if call.first >= ledger.first else ()
            chosen = [found for height in heights if (found := ledger.block(height))]
            answer = GotBlocks(tuple(encode(Certified(*pair)) for pair in chosen))
        self.node.world.post(self.node.index, sender, answer)

    def receive(self, sender: int, answer: GotBlocks) -> None:
        """Take a range; if it brings nothing on, ask another peer for it."""
        if sender == self.asked:
            self.asked = None
        for raw in answer.blocks:
            certified = decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX)
            self.backlog[certified.block.header.height] = certified
        self.feed()
        node = self.node
        if node.state is None or node.state.instance.phase in (Phase.EXECUTING, Phase.HALTED):
            return
        if node.ledger.tip.height < self.last:
            self.useless.add(sender)
            self._ask_range([])

    def take_body(self, answer: GotBlock) -> None:
        """Take a body, or ask the next one who may have it."""
        block = answer.block
        if block is not None and is_bound(block):
            self.wanted = None
            self.node.take(Fetched(block))
        else:
            self._ask_body()

    def _ask_body(self) -> None:
        own = self.node.index
        while self.wanted is not None and self.holders:
            peer = self.holders.pop(0)
            if peer != own:
                self.node.world.post(own, peer, self.wanted)
                return

    def go_on(self) -> None:
        """A block was applied: hand over the next one, or ask for what an answer left out."""
        self.feed()
        node = self.node
        if node.state is None or node.state.instance.phase in (Phase.EXECUTING, Phase.HALTED):
            return
        if self.asked is None and node.ledger.tip.height < self.last:
            self._ask_range([])

    def feed(self) -> None:
        """Hand the next block to the core; the one after it follows `Applied`."""
        node = self.node
        if node.state is None or node.state.instance.phase is Phase.EXECUTING:
            return
        tip = node.ledger.tip.height
        for height in sorted(height for height in self.backlog if height <= tip):
            del self.backlog[height]
        certified = self.backlog.pop(tip + 1, None)
        if certified is not None:
            node.take(Decided(certified.block, certified.certificate))

    def _ask_range(self, named: list[int]) -> None:
        first = self.node.ledger.tip.height + 1
        others = [index for index in range(len(self.node.world.nodes)) if index != self.node.index]
        if all(index in self.useless for index in others):
            return  # the core asks again
        willing = [index for index in named or others if index not in self.useless]
        idle = [index for index in (*willing, *others) if index not in self.useless]
        quick = [index for index in idle if index not in self.slow]
        oldest = [index for index in self.slow if index in idle][:1]
        peer = self._choose([index for index in willing if index in quick] or quick or oldest)
        self.asked = peer
        ask = GetBlocks(first, self.last - first + 1)
        self.node.world.post(self.node.index, peer, ask)

    def _choose(self, named: list[int]) -> int:
        others = [index for index in range(len(self.node.world.nodes)) if index != self.node.index]
        return self.node.world.dice.choice([i for i in named if i != self.node.index] or others)

    def _body(self, height: int, digest: bytes) -> Block | None:
        """A proposed block of the core, or one that has been executed since."""
        node = self.node
        assert node.state is not None
        if 0 < height <= node.ledger.tip.height:
            found = node.ledger.block(height)
            return found[0] if found and block_hash(found[0].header) == digest else None
        return replica.body(node.state, height, digest)
