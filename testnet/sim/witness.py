"""Evidence of a run: kept by who saw it, told to all, drafted into blocks, punished once.

Does what node/chain/evidence does; `Punishment` watches that it leads anywhere. Its idea of who is
guilty of what is its own. Knows: evidence. Must not know: votes.
Source: docs/spec/ledger.md, "Evidence".
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prsm.consensus.pbft.effects import Accuse
from prsm.consensus.pbft.events import Waiting
from prsm.protocol.codec import decode, encode
from prsm.protocol.headers import Block
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.consensus import Accusation
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import evidence_of
from prsm.protocol.transactions.payloads import Evidence
from prsm.testnet.sim.invariants import Invariant
from prsm.testnet.sim.roster import Roster

if TYPE_CHECKING:
    from prsm.testnet.sim.node import Node

WAITING_MAX: Final = 64
HEIGHTS_MAX: Final = 3  # blocks of honest proposers that hold evidence two honest nodes have


@dataclass(slots=True)
class Witness:
    """What one node keeps for a block, in one life."""

    node: "Node"
    waiting: dict[bytes, None] = field(default_factory=dict)

    def accuse(self, accuse: Accuse) -> None:
        """The core saw two messages that no honest validator signs both."""
        self.hear(encode(evidence_of(accuse.first, accuse.second)))

    def hear(self, raw: bytes) -> None:
        """Keep what convicts and pass it on, once."""
        node = self.node
        is_full = raw in self.waiting or len(self.waiting) >= WAITING_MAX
        if node.state is None or is_full or not self._convicts(raw):
            return
        self.waiting[raw] = None
        node.world.punishment.held(node.index, raw)
        for peer in range(len(node.world.nodes)):
            if peer != node.index:
                node.world.post(node.index, peer, Accusation(raw))
        node.take(Waiting(transactions=True))

    def settle(self) -> None:
        """Forget what no longer convicts."""
        self.waiting = {raw: None for raw in self.waiting if self._convicts(raw)}

    def _convicts(self, raw: bytes) -> bool:
        ledger = self.node.ledger
        return bool(ledger.convicting((raw,), time_ms=self.node.wall_ms(), proposer=0))


Guilt = tuple[int, int, bool]  # node, height, does it cost the place for good?


@dataclass(slots=True)
class Punishment:
    """Who was seen by whom, and punished when."""

    roster: Roster
    report: Callable[[Invariant, str], None]
    is_honest: Callable[[int], bool]
    unbonding_ms: int = 604_800_000
    times: dict[int, int] = field(default_factory=dict)  # height -> ms of its block
    holders: dict[Guilt, dict[int, None]] = field(default_factory=dict)
    passed: dict[Guilt, int] = field(default_factory=dict)  # chances not taken
    punished: set[Guilt] = field(default_factory=set)
    height: int = 0

    def held(self, node: int, raw: bytes) -> None:
        """A node keeps evidence for a block."""
        if self.is_honest(node):
            self.holders.setdefault(self.guilt(raw), {})[node] = None

    def dropped(self, node: int) -> None:
        """A node crashed, and its evidence is gone with it."""
        for holders in self.holders.values():
            holders.pop(node, None)

    def enter(self, block: Block) -> None:
        """Take the first decision of a height."""
        header = block.header
        if header.height <= self.height:
            return
        self.height = header.height
        self.times[header.height] = header.time_ms
        for raw in block.body.evidence:
            guilt = self.guilt(raw)
            if guilt in self.punished:
                self.report(Invariant.PUNISHMENT, f"node {guilt[0]} is punished twice")
            self.punished.add(guilt)
        proposer = self.roster.node_of(header.epoch, header.proposer)
        assert proposer is not None
        for guilt, holders in self.holders.items():
            if self._is_settled(guilt) or len(holders) < 2 or proposer not in holders:
                continue
            if header.time_ms > self.times.get(guilt[1], header.time_ms) + self.unbonding_ms:
                continue  # perhaps too old
            if self.is_honest(proposer):
                self.passed[guilt] = self.passed.get(guilt, 0) + 1
                if self.passed[guilt] > HEIGHTS_MAX:
                    what = f"what node {guilt[0]} did at height {guilt[1]} is in no block"
                    self.report(Invariant.PUNISHMENT, what)

    def _is_settled(self, guilt: Guilt) -> bool:
        """Is nothing left to punish? Who has lost his place for good pays once for a height."""
        node, height, _ = guilt
        is_out = any(who == node and fatal for who, _, fatal in self.punished)
        lesser, worse = (node, height, False), (node, height, True)
        return bool(self.punished & {guilt, worse}) or (is_out and lesser in self.punished)

    def guilt(self, raw: bytes) -> Guilt:
        """Who did what."""
        evidence = decode(raw, Evidence, size_max=TRANSACTION_BYTES_MAX)
        first = evidence.first
        node = self.roster.node_of(first.epoch, first.signer)
        assert node is not None
        return node, first.height, first.kind is Kind.COMMIT
