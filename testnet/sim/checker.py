"""Watches every node of a run and names each broken invariant.

Its arithmetic is its own: a wrong quorum in the code under test must not blind it. Honest
nodes are all but the plan's liars. Source: docs/spec/pbft.md, "Invariants".
"""

from dataclasses import dataclass, field
from typing import Final

from prsm.consensus.pbft.effects import Accuse, Fetch
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.records import (
    Entered,
    Held,
    Left,
    Locked,
    LogRecord,
    LowMark,
    Voted,
    unpack,
)
from prsm.consensus.pbft.state import State, load
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.headers import Block, Header, block_hash
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import NewView, SignedMessage, ViewChange
from prsm.protocol.signing import Kind, statement
from prsm.testnet.sim.invariants import Invariant, violation
from prsm.testnet.sim.log import LOST
from prsm.testnet.sim.plan import LEDGER, Plan
from prsm.testnet.sim.roster import Roster

_VOTES: Final = (Kind.PROPOSE, Kind.PREPARE, Kind.COMMIT)
_COMMIT: Final = Kind.COMMIT
_VIEW_CHANGE: Final = Kind.VIEW_CHANGE
NAMES: Final = {kind: kind.name for kind in Kind}
_HIDDEN: Final = ((Kind.COMMIT, Kind.VIEW_CHANGE), (Kind.VIEW_CHANGE, Kind.COMMIT))
# Derived from the limits of docs/spec/pbft.md, not from the code's constants.
FETCH_AGAIN_MS: Final = 1_000
BOUNDS: Final = {"bodies": 8, "bodies_ahead": 2, "checked": 256, "tallies": 18, "proposals": 3}
_BODIES, _PROPOSALS = BOUNDS["bodies"], BOUNDS["proposals"]
_TALLIES, _CHECKED = BOUNDS["tallies"], BOUNDS["checked"]
Demand = tuple[frozenset[int], tuple[int, bytes]]  # signers, highest prepared view and its block


@dataclass(slots=True)
class Checker:
    """All that honest nodes said, decided and computed."""

    plan: Plan
    chain_id: bytes
    roster: Roster
    verifier: Verifier
    violations: list[str] = field(default_factory=list)
    decided: dict[int, bytes] = field(default_factory=dict)
    roots: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    said: dict[tuple[int, Kind, int, int], bytes] = field(default_factory=dict)
    left: dict[tuple[int, int], int] = field(default_factory=dict)  # (signer, height) -> view
    demanded: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    locked: dict[tuple[int, int], int] = field(default_factory=dict)  # highest COMMIT view
    durable: dict[int, set[tuple[str, int, int, bytes]]] = field(default_factory=dict)
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)  # (first, at) of a node
    # Nothing at all is left to a wiped node; what it says again while nobody tells it what it
    # said before counts against the faulty third. Looked up, never iterated.
    wiped: set[int] = field(default_factory=set)
    records: dict[bytes, LogRecord] = field(default_factory=dict)  # unpacked once
    demands: dict[bytes, Demand] = field(default_factory=dict)  # of bodies of NEW_VIEW, read once

    def is_honest(self, node: int) -> bool:
        """Is the node none of the plan's liars?"""
        return node not in self.plan.liars

    def report(self, invariant: Invariant, what: str) -> None:
        """Note a broken invariant."""
        self.violations.append(violation(invariant, what))

    def synced(self, node: int, record: bytes) -> None:
        """A record became durable at a node."""
        entries = self.durable.setdefault(node, set())
        found = self.records.get(record)
        if found is None:  # most votes are the same bytes at every node
            found = self.records[record] = unpack(record)
        match found:
            case Voted() as voted:
                entries.add((NAMES[voted.kind], voted.height, voted.view, voted.block_hash))
            case Locked() as locked:
                digest = locked.certificate.block_hash
                entries.add(("COMMIT", locked.height, locked.view, digest))
            case Left() as left:
                entries.add(("VIEW_CHANGE", left.height, left.view, b""))
            case Entered() as entered:
                message = entered.new_view
                entries.add(("NEW_VIEW", message.height, message.view, b""))
                self._note_demand(node, message)
            case LowMark() | Held():
                pass

    def _note_demand(self, node: int, message: SignedMessage) -> None:
        """Work out again which block a NEW_VIEW demands."""
        found = self.demands.get(message.body)
        if found is None:
            found = self.demands[message.body] = _demand_of(message.body)
        signers, (view, demanded) = found
        members = self.roster.sets[message.epoch]
        weight = sum(members.validators[each].stake for each in signers if each < len(members))
        total = members.total
        if self.is_honest(node) and weight * 3 <= total * 2:
            place = f"{message.height}/{message.view}"
            self.report(
                Invariant.CERTIFICATES,
                f"node {node} entered view {place} by weight {weight} of {total}",
            )
        if view >= 0:
            self.demanded[node, message.height, message.view] = demanded

    def sent(self, node: int, opened: Opened, *, is_renewed: bool = False) -> None:
        """An honest node let a message of its own leave."""
        if not self.is_honest(node) or (node in self.wiped and not is_renewed):
            return
        message = opened.message
        kind, height, view = message.kind, message.height, message.view
        if self.roster.node_of(message.epoch, message.signer) != node:
            self.report(
                Invariant.HONEST_KEYS, f"node {node} sent a message signed by {message.signer}"
            )
        digest = opened.digest if kind in _VOTES else b""
        durable = self.durable.setdefault(node, set())
        if (NAMES[kind], height, view, digest) not in durable:
            self.report(
                Invariant.DURABILITY,
                f"node {node} sent {kind.name} {height}/{view} before its record was durable",
            )
        if view > 0 and kind in _VOTES and ("NEW_VIEW", height, view, b"") not in durable:
            self.report(
                Invariant.DURABILITY,
                f"node {node} voted in view {height}/{view} it had not entered durably",
            )
        if kind in _VOTES:
            self._check_vote(node, opened)
        elif kind is _VIEW_CHANGE:
            self._check_view_change(node, opened)

    def _check_vote(self, node: int, opened: Opened) -> None:
        message = opened.message
        kind, height, view = message.kind, message.height, message.view
        earlier = self.said.setdefault((node, kind, height, view), opened.digest)
        if earlier != opened.digest:
            self.report(
                Invariant.HONEST_KEYS, f"honest node {node} sent two {kind.name} in {height}/{view}"
            )
        demanded = self.demanded.get((node, height, view))
        if demanded is not None and demanded != opened.digest:
            self.report(
                Invariant.HONEST_KEYS,
                f"honest node {node} voted in {height}/{view} for another block than demanded",
            )
        if view < self.left.get((node, height), 0):
            self.report(
                Invariant.HONEST_KEYS,
                f"honest node {node} voted in view {height}/{view} it had left",
            )
        if kind is _COMMIT:
            self.locked[node, height] = max(view, self.locked.get((node, height), -1))

    def _check_view_change(self, node: int, opened: Opened) -> None:
        message = opened.message
        assert opened.view_change is not None
        height, view = message.height, message.view
        self.left[node, height] = max(view, self.left.get((node, height), 0))
        prepared = opened.view_change.prepared
        claimed = -1 if prepared is None else prepared.view
        if claimed < self.locked.get((node, height), -1) < view:
            self.report(
                Invariant.HONEST_KEYS, f"honest node {node} hid a prepared block of height {height}"
            )

    def executed(self, node: int, block: Block, certificate: Certificate) -> None:
        """A node decided a block."""
        if not self.is_honest(node):
            return
        height = block.header.height
        digest = block_hash(block.header)
        if self.decided.setdefault(height, digest) != digest:
            self.report(
                Invariant.AGREEMENT, f"two blocks decided at height {height}, one by node {node}"
            )
        if certificate.block_hash != digest or certificate.height != height:
            self.report(
                Invariant.CERTIFICATES,
                f"node {node} decided height {height} by a certificate of another block",
            )
        self._check_certificate(node, block.header, certificate)

    def applied(self, node: int, height: int, roots: tuple[bytes, bytes]) -> None:
        """A node's ledger executed a block."""
        if self.is_honest(node) and self.roots.setdefault(height, roots) != roots:
            self.report(Invariant.STATE, f"node {node} has other roots after height {height}")

    def accused(self, node: int, accusation: Accuse) -> None:
        """A node accuses somebody by two messages."""
        first, second = accusation.first, accusation.second
        if not self.is_honest(node):
            return
        is_hidden = (first.kind, second.kind) in _HIDDEN and first.height == second.height
        is_pair = first.signer == second.signer if is_hidden else _place(first) == _place(second)
        accused = self.roster.node_of(first.epoch, first.signer)
        is_clean = accused is None or (self.is_honest(accused) and accused not in self.wiped)
        if is_clean or not is_pair:
            self.report(Invariant.HONEST_KEYS, f"node {node} accuses the honest node {accused}")

    def fetched(self, node: int, fetch: Fetch, now_ms: int) -> None:
        """A node asks for blocks: one range in flight, asked again after a second."""
        if fetch.block_hash is not None:
            return
        first, at = self.ranges.get(node, (0, 0))
        if fetch.first == first and now_ms < at + FETCH_AGAIN_MS:
            self.report(
                Invariant.MEMORY, f"node {node} asks for block {first} again after {now_ms - at} ms"
            )
        self.ranges[node] = (fetch.first, now_ms)

    def observed(self, node: int, reason: str) -> None:
        """A node stopped signing: never needed while disks keep what they promised."""
        is_known = node == self.plan.damaged and (self.plan.damage != LEDGER or reason == LOST)
        if self.is_honest(node) and not is_known:
            self.report(Invariant.HONEST_KEYS, f"honest node {node} became observer: {reason}")

    def bounded(self, node: int, state: State) -> None:
        """Are a node's tables within their limits?"""
        instance, signers = state.instance, len(self.roster.keys)
        # Straight comparisons: this runs after each event. All tables are counted only when a
        # sum of them is as large as the smallest bound that may be broken.
        if (
            len(state.ahead) <= 2
            and len(instance.bodies) <= _BODIES
            and len(instance.proposals) <= _PROPOSALS
            and len(instance.tallies) <= _TALLIES
            and len(instance.view_changes) <= signers
            and len(state.checked) <= _CHECKED
        ):
            return
        sizes = load(state)
        bounds = BOUNDS | {"view_changes": signers, "ahead": 4 * (5 * 2 + 1) * signers + 4}
        for name, bound in bounds.items():
            if sizes[name] > bound:
                self.report(
                    Invariant.MEMORY, f"node {node} holds {sizes[name]} {name}, at most {bound}"
                )

    def _check_certificate(self, node: int, header: Header, certificate: Certificate) -> None:
        epoch = self.roster.epochs.get(header.height)
        members, following = (self.roster.sets.get(each) for each in (epoch or 0, (epoch or 0) + 1))
        assert members is not None
        announced = b"" if following is None else following.digest
        if header.epoch != epoch or certificate.epoch != epoch:
            self.report(
                Invariant.CERTIFICATES,
                f"node {node} decided {header.height} of epoch {epoch} in {certificate.epoch}",
            )
        elif (header.validators_hash, header.next_validators_hash) != (members.digest, announced):
            self.report(
                Invariant.CERTIFICATES, f"block {header.height} names other sets than its epoch's"
            )
        signed = statement(
            self.chain_id,
            Kind.COMMIT,
            epoch=certificate.epoch,
            height=certificate.height,
            view=certificate.view,
            digest=certificate.block_hash,
        )
        signers = certificate.signer_indexes()
        weight, total = 0, members.total
        for signer, signature in zip(signers, certificate.signatures, strict=True):
            if signer < len(members) and self.verifier.verify(
                members.validators[signer].consensus, signed, signature
            ):
                weight += members.validators[signer].stake
        if weight * 3 <= total * 2:
            self.report(
                Invariant.CERTIFICATES,
                f"node {node} decided {certificate.height} by weight {weight} of {total}",
            )


def _demand_of(body: bytes) -> Demand:
    new_view = decode(body, NewView, size_max=CTL_FRAME_BYTES_MAX)
    best = (-1, b"")
    for part in new_view.view_changes:
        change = decode(part.body, ViewChange, size_max=CTL_FRAME_BYTES_MAX)
        if change.prepared is not None:
            best = max(best, (change.prepared.view, change.prepared.block_hash))
    return frozenset(part.signer for part in new_view.view_changes), best


def _place(message: SignedMessage) -> tuple[int, Kind, int, int]:
    return message.signer, message.kind, message.height, message.view
