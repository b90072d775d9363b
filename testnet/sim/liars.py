"""What Byzantine nodes do: they run the honest core, and something else leaves them.

Liars of a run work together: each group of honest nodes is told one story, and every liar
votes for every story. Knows: their own keys only; a signature of another is out of reach.
"""

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import msgspec

from prsm.consensus.pbft.evidence import VOTES
from prsm.consensus.pbft.opened import Opened
from prsm.protocol import merkle
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.headers import Block
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import (
    Prepared,
    Proposal,
    SignedMessage,
    ViewChange,
    sign_message,
)
from prsm.protocol.messages.sync import GotBlock, GotBlocks
from prsm.protocol.signing import Kind
from prsm.testnet.sim import forgeries
from prsm.testnet.sim.plan import DRIP
from prsm.testnet.sim.snapshots import Answer

if TYPE_CHECKING:
    from prsm.testnet.sim.node import Node

MEMORY_MAX = 40
DRIP_MS_MAX = 3_000


@dataclass(slots=True)
class Liars:
    """The adversary of one run."""

    scripts: tuple[str, ...]
    dice: Random
    chain_id: bytes
    group: frozenset[int]  # who is told the second story
    voted: set[tuple[int, Kind, int, int, bytes, int]] = field(default_factory=set)
    made: dict[tuple[int, Kind, int, int, int, bytes], Opened | None] = field(default_factory=dict)
    memory: list[Opened] = field(default_factory=list)
    first_prepared: dict[tuple[int, int], Prepared | None] = field(default_factory=dict)

    def speak(self, node: "Node", message: SignedMessage, receivers: list[int]) -> None:
        """Send something else than, or beside, what the honest core ordered."""
        if "silent" in self.scripts and self.dice.random() < 0.5:
            return
        if "deaf" in self.scripts:
            receivers = [receiver for receiver in receivers if self.dice.random() < 0.6]
        if message.kind is Kind.PROPOSE:
            self._propose(node, message, receivers)
            return
        if message.kind is Kind.VIEW_CHANGE:
            message = self._change(node, message)
            if "selective" in self.scripts:
                receivers = [i for i in receivers if i in self.group]
            if "crown" in self.scripts:
                for made in forgeries.crown(node, message, self.chain_id):
                    self._send(node, made, receivers)
        if message.kind in (Kind.PREPARE, Kind.COMMIT) and "favour" in self.scripts:
            receivers = [i for i in receivers if i == self._favourite(node, message)]
        self._send(node, message, receivers)

    def overhear(self, node: "Node", opened: Opened) -> None:
        """Answer what arrives at a liar: vote for all of it, or send something old again."""
        message = opened.message
        if "replay" in self.scripts:
            self._replay(node, opened)
        speaker = node.world.roster.node_of(message.epoch, message.signer)
        if speaker is None:
            return
        if speaker not in node.world.plan.liars:  # else two would answer each other for ever
            self._make_up(node, opened)
        if "double" in self.scripts and message.kind in (Kind.PROPOSE, Kind.PREPARE):
            # A replica counts the first vote of a signer: tell each what it wants to hear.
            self._vote_all(node, message, opened.digest, [speaker])

    def _make_up(self, node: "Node", opened: Opened) -> None:
        message = opened.message
        everybody = list(range(len(node.world.nodes)))
        made: list[SignedMessage] = []
        if "flood" in self.scripts and self.dice.random() < 0.03:
            made.extend(forgeries.flood(node, message, self.dice, self.chain_id))
        if "foreign" in self.scripts and message.kind is Kind.PROPOSE:
            made.extend(forgeries.foreign(node.world.nodes, message, self.dice))
        if "relabel" in self.scripts and message.kind in (Kind.PREPARE, Kind.COMMIT):
            made.append(forgeries.relabelled(opened))
        for each in made:
            self._send(node, each, everybody)

    def hand_over(self, record: Record) -> tuple[Record, int]:
        """What leaves instead of a status, a call or an answer, and how many ms later."""
        # A body is asked for again and again: who lies each time may end each search for it.
        if "hints" in self.scripts and (isinstance(record, GotBlock) or self.dice.random() < 0.5):
            record = forgeries.record(record, self.dice)
        if DRIP in self.scripts and isinstance(record, GotBlocks | Answer):
            if isinstance(record, GotBlocks):
                record = GotBlocks(record.blocks[:1])
            return record, self.dice.randint(400, DRIP_MS_MAX)
        return record, 0

    def _change(self, node: "Node", message: SignedMessage) -> SignedMessage:
        """A VIEW_CHANGE that hides what was prepared, shows only its first, or makes it up."""
        change = decode(message.body, ViewChange, size_max=CTL_FRAME_BYTES_MAX)
        body = message.body
        if "forget" in self.scripts:
            body = encode(ViewChange(change.tip_cert, None))
        elif "stale" in self.scripts:
            place = (node.index, message.height)
            first = self.first_prepared.setdefault(place, change.prepared)
            body = encode(ViewChange(change.tip_cert, first))
        if "claim" in self.scripts and self.dice.random() < 0.5:
            body = forgeries.claim(node, message)
        return self._sign(node, msgspec.structs.replace(message, body=body))

    def _favourite(self, node: "Node", message: SignedMessage) -> int:
        """The one replica that is helped to a certificate in this view."""
        seed = message.height * 31 + message.view * 7 + message.kind
        return seed % len(node.world.nodes)

    def _propose(self, node: "Node", message: SignedMessage, receivers: list[int]) -> None:
        stories = [message]
        proposal = decode(message.body, Proposal, size_max=CTL_FRAME_BYTES_MAX)
        header = proposal.block.header
        share = 0.3 if node.world.clients is None else 0.7
        if "invalid" in self.scripts and self.dice.random() < share:
            stories = [self._variant(node, message, proposal, b"bad")]
        elif "equivocate" in self.scripts and header.view == message.view:
            stories.append(self._variant(node, message, proposal, b"t second story"))
        elif "usurp" in self.scripts and header.view < message.view:
            stories = [self._variant(node, message, proposal, b"t usurped")]
        # Mostly one story to each half; now and then both to everybody.
        is_open = "double" not in self.scripts and self.dice.random() < 0.5
        for number, story in enumerate(stories):
            told = receivers
            if len(stories) > 1 and not is_open:
                told = [i for i in receivers if (i in self.group) == bool(number)]
            self._send(node, story, told)
            if "double" in self.scripts:
                opened = node.world.network.admit(story)
                if opened is not None:
                    self._vote_all(node, story, opened.digest, told)

    def _variant(
        self, node: "Node", message: SignedMessage, proposal: Proposal, extra: bytes
    ) -> SignedMessage:
        """Another block for the same place."""
        block = proposal.block
        transactions, time_ms = block.body.transactions, block.header.time_ms
        clients = node.world.clients
        if clients is None:
            transactions = (*transactions, extra + b" %d" % message.height)
        elif extra.startswith(b"bad") and transactions and self.dice.random() < 0.3:
            transactions = (*transactions, transactions[-1])
        elif extra.startswith(b"bad"):
            transactions = (*transactions, clients.poison(time_ms))
        else:
            time_ms += 1
        body = msgspec.structs.replace(block.body, transactions=transactions)
        header = msgspec.structs.replace(
            block.header,
            tx_root=merkle.root(transactions),
            time_ms=time_ms,
            view=message.view,
            proposer=message.signer,
        )
        changed = encode(Proposal(Block(header, body), proposal.new_view))
        return self._sign(node, msgspec.structs.replace(message, body=changed))

    def _vote_all(
        self, node: "Node", message: SignedMessage, digest: bytes, receivers: list[int]
    ) -> None:
        for liar in node.world.plan.liars:
            speaker = node.world.nodes[liar]
            place = node.world.roster.place_of(message.epoch, liar)
            if place is None:
                continue
            for kind in VOTES:
                said = (liar, kind, message.height, message.view, digest)
                told = [i for i in receivers if (*said, i) not in self.voted]
                if not told:
                    continue
                self.voted.update((*said, i) for i in told)
                name = (liar, kind, message.epoch, message.height, message.view, digest)
                if name not in self.made:  # the same vote goes to one replica after the other
                    vote = msgspec.structs.replace(message, kind=kind, body=digest, signer=place[0])
                    self.made[name] = node.world.network.admit(self._sign(speaker, vote))
                self._carry(speaker, self.made[name], told)

    def _replay(self, node: "Node", opened: Opened) -> None:
        if len(self.memory) < MEMORY_MAX:
            self.memory.append(opened)
        elif self.dice.random() < 0.1:
            self.memory[self.dice.randrange(MEMORY_MAX)] = opened
        if self.dice.random() < 0.1:
            old = self.dice.choice(self.memory)
            self._send(node, old.message, [self.dice.randrange(len(node.world.nodes))])

    @staticmethod
    def go_on(node: "Node") -> bool:
        """Be silenced by nothing that was said beside the core, if the log takes votes yet."""
        if node.log.is_observer:
            return False
        assert node.state is not None
        node.state.observer, node.state.probation = None, None
        return True

    def _sign(self, node: "Node", message: SignedMessage) -> SignedMessage:
        return sign_message(message, node.signer_in(message.epoch), self.chain_id)

    def _send(self, node: "Node", message: SignedMessage, receivers: list[int]) -> None:
        self._carry(node, node.world.network.admit(message), receivers)

    @staticmethod
    def _carry(node: "Node", opened: Opened | None, receivers: list[int]) -> None:
        if opened is None:
            return
        told = [receiver for receiver in receivers if receiver != node.index]
        node.world.network.spread(node.index, told, opened)
