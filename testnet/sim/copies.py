"""Unmodified cores, some with one key between them, whose messages stay within a partition.

A round is two bursts: messages of the present view are said again, then timeouts pass; both
under one partition, with one kind of message perhaps kept from all but one. Everything can be
copied, so that scenarios with a common beginning play it once.
Knows: cores, ledgers, who hears whom. Must not know: which scenarios there are.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.effects import (
    Accuse,
    Broadcast,
    Effect,
    Execute,
    Fetch,
    NeedPayload,
    Observe,
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
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.consensus.pbft.state import Instance, State
from prsm.consensus.pbft.votes import Tally
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind, statement
from prsm.protocol.validators import Validator
from prsm.testnet.sim.invariants import Invariant, violation
from prsm.testnet.sim.ledger import FakeLedger
from prsm.testnet.sim.plan import index_of, peer_of
from prsm.testnet.sim.signing import KeyedSigner

AGAIN_MS: Final = 250  # messages are said again, a block's gap is over
PARAMETERS: Final = Parameters(
    timeout_base_ms=400, timeout_cap_ms=2_000, block_gap_min_ms=200, heartbeat_block_ms=3_600_000
)
START_MS: Final = 1_000
NOBODY: Final = ""  # a STATUS shows it no vote: twins would see what the other copy said
EVENTS_MAX: Final = 20_000  # of one burst: beyond it cores feed each other


@dataclass(frozen=True, slots=True)
class Round:
    """Who hears whom for a while."""

    groups: tuple[int, ...]  # of each copy: only the same group is heard
    withheld: Kind | None = None  # this kind reaches
    only: int = -1  # this copy alone


@dataclass(slots=True)
class Copy:
    """One core and its ledger."""

    key: int  # signer index, shared by twins
    state: State
    ledger: FakeLedger


@dataclass(slots=True)
class Copies:
    """The cores of a scenario so far."""

    genesis: Genesis
    verifier: Verifier
    twins: frozenset[int]  # signer indexes of the keys that are used more than once
    copies: list[Copy] = field(default_factory=list)
    now_ms: int = START_MS
    events: int = 0
    violations: list[str] = field(default_factory=list)
    opened: dict[bytes, Opened] = field(default_factory=dict)  # by signature; for all branches
    _queue: list[tuple[int, Event]] = field(default_factory=list)
    _round: Round = Round(())

    @classmethod
    def start(
        cls,
        genesis: Genesis,
        signers: list[KeyedSigner],
        verifier: Verifier,
        keys: tuple[int, ...],
        borders: Mapping[int, tuple[Validator, ...]],
    ) -> Self:
        """Cores at genesis that all want a block.

        Args:
            genesis: of the network.
            signers: by signer index.
            verifier: of their signatures.
            keys: the signer index of each copy; in every epoch the same.
            borders: at which heights an epoch ends, and the members of the epoch after the next.
        """
        twins = frozenset(key for key in keys if keys.count(key) > 1)
        made = cls(genesis, verifier, twins)
        for key in keys:
            config = Config.of(genesis, signers=(signers[key],), verifier=verifier)
            ledger = FakeLedger(genesis, borders=borders)
            state = replica.start(config, ledger.tip, (), None)
            made.copies.append(Copy(key, state, ledger))
        made._round = Round((0,) * len(keys))
        for index, each in enumerate(made.copies):
            for key in range(len(signers)):
                if key != each.key:
                    status = statuses.status_for(made.copies[key].state, NOBODY)
                    made._take(index, Heard(peer_of(key), status))
            made._take(index, Waiting(transactions=True))
        made._queue.clear()  # height 1 is proposed again in the first burst
        return made

    def fork(self) -> "Copies":
        """An equal scenario that goes another way from here."""
        copies = [
            Copy(each.key, _forked_state(each.state), _forked_ledger(each.ledger))
            for each in self.copies
        ]
        return Copies(
            self.genesis,
            self.verifier,
            self.twins,
            copies,
            self.now_ms,
            0,
            list(self.violations),
            self.opened,
        )

    def play(self, each: Round) -> None:
        """Let a round pass."""
        self._round = each
        for span in (AGAIN_MS, PARAMETERS.timeout_cap_ms):
            self.now_ms += span
            for index in range(len(self.copies)):
                self._follow(index)
                self._take(index, Tick())
            self._burst()

    def height(self) -> int:
        """The lowest of the honest copies."""
        return min(each.ledger.tip.height for each in self.copies if each.key not in self.twins)

    def _burst(self) -> None:
        queue, at = self._queue, 0
        while at < len(queue) and not self.violations:
            index, event = queue[at]
            at += 1
            self._take(index, event)
            if at > EVENTS_MAX:
                self._report(Invariant.MEMORY, f"more than {EVENTS_MAX} events in one burst")
        queue.clear()

    def _take(self, index: int, event: Event) -> None:
        self.events += 1
        each = self.copies[index]
        for effect in replica.step(each.state, event, self.now_ms):
            self._do(index, each, effect)

    def _do(self, index: int, each: Copy, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                self._send(index, message, None)
            case Send(peer, message):
                self._send(index, message, index_of(peer))
            case NeedPayload(height, view):
                draft = Draft((b"t%d of %d" % (height, index),), (), self.now_ms)
                self._queue.append((index, Payload(height, view, draft)))
            case Validate(block, digest):
                verdict = Verdict(digest, each.ledger.judge(block, self.now_ms))
                self._queue.append((index, verdict))
            case Execute():
                self._execute(index, each, effect)
            case Fetch():
                self._serve(index, effect)
            case Observe(reason) if each.key not in self.twins:
                self._report(Invariant.HONEST_KEYS, f"{index} became observer: {reason}")
            case Observe(forgot=True):  # a certificate has a vote of the other copy: it goes on
                each.state.observer, each.state.probation = None, None
            case Accuse(first) if first.signer not in self.twins:
                self._report(Invariant.HONEST_KEYS, f"{index} accuses {first.signer}")
            case _:
                pass

    def _send(self, sender: int, message: SignedMessage, to: int | None) -> None:
        opened = self.opened.get(message.signature)
        if opened is None:
            opened = self.opened[message.signature] = open_message(message)
        event = Received(opened)
        now, key = self._round, self.copies[sender].key
        group = now.groups[sender]
        alone = now.only if now.withheld is message.kind else None
        for index, other in enumerate(self.copies):
            if now.groups[index] != group or other.key == key:
                continue
            if (to is None or other.key == to) and (alone is None or alone == index):
                self._queue.append((index, event))

    def _execute(self, index: int, each: Copy, effect: Execute) -> None:
        ledger = each.ledger
        ledger.apply(effect.block, effect.certificate)
        tip = ledger.tip
        if each.key not in self.twins:
            self._check(index, effect)
        applied = Applied(
            tip.height, effect.block_hash, tip.state_root, tip.receipts_root, tip.epoch
        )
        self._queue.append((index, applied))

    def _check(self, index: int, effect: Execute) -> None:
        """Is it the block of every other honest copy, and does a quorum of stake say so?"""
        height, digest = effect.block.header.height, effect.block_hash
        for other in self.copies:
            if other.key in self.twins or other.ledger.tip.height < height:
                continue
            if block_hash(other.ledger.blocks[height - 1][0].header) != digest:
                what = f"two blocks decided at height {height}, one by {index}"
                self._report(Invariant.AGREEMENT, what)
        certificate, members = (
            effect.certificate,
            self.copies[index].ledger.tip.certifiers.validators,
        )
        signed = statement(
            self.genesis.chain_id,
            Kind.COMMIT,
            epoch=self.copies[index].ledger.tip.certifiers.epoch,
            height=height,
            view=certificate.view,
            digest=digest,
        )
        weight, total = 0, sum(member.stake for member in members)
        signers = certificate.signer_indexes()
        for signer, signature in zip(signers, certificate.signatures, strict=True):
            if self.verifier.verify(members[signer].consensus, signed, signature):
                weight += members[signer].stake
        if weight * 3 <= total * 2:
            what = f"{index} decided height {height} by weight {weight} of {total}"
            self._report(Invariant.CERTIFICATES, what)

    def _serve(self, index: int, fetch: Fetch) -> None:
        """Answer from the first copy of the group that has it."""
        groups = self._round.groups
        for other, each in enumerate(self.copies):
            if other == index or groups[other] != groups[index]:
                continue
            if fetch.block_hash is None:
                chosen = each.ledger.blocks[fetch.first - 1 : fetch.first]
                for block, certificate in chosen:
                    self._queue.append((index, Decided(block, certificate)))
                if chosen:
                    return
                continue
            body = _body(each, fetch.first, fetch.block_hash)
            if body is not None:
                self._queue.append((index, Fetched(body)))
                return

    def _follow(self, index: int) -> None:
        """Hear of the highest copy in reach, if it is ahead."""
        groups = self._round.groups
        height, other = max(
            (each.ledger.tip.height, -other)
            for other, each in enumerate(self.copies)
            if groups[other] == groups[index]
        )
        if height > self.copies[index].ledger.tip.height:
            ahead = self.copies[-other]
            self._take(index, Heard(peer_of(ahead.key), statuses.status_for(ahead.state, NOBODY)))

    def _report(self, invariant: Invariant, what: str) -> None:
        self.violations.append(violation(invariant, what))


def _body(each: Copy, height: int, digest: bytes) -> Block | None:
    if height <= each.ledger.tip.height:
        block = each.ledger.blocks[height - 1][0]
        return block if block_hash(block.header) == digest else None
    return replica.body(each.state, height, digest)


_MUTABLE: Final = (dict, set, list, deque)
_State_names: Final = tuple(State.__dataclass_fields__)
_Instance_names: Final = tuple(Instance.__dataclass_fields__)
_Ledger_names: Final = tuple(FakeLedger.__dataclass_fields__)


def _forked_state(state: State) -> State:
    made = object.__new__(State)
    for name in _State_names:
        value = getattr(state, name)
        setattr(made, name, value.copy() if type(value) in _MUTABLE else value)
    made.instance = _forked_instance(state.instance)
    return made


def _forked_instance(instance: Instance) -> Instance:
    made = object.__new__(Instance)
    for name in _Instance_names:
        value = getattr(instance, name)
        setattr(made, name, value.copy() if type(value) in _MUTABLE else value)
    made.tallies = {
        key: Tally(tally.votes.copy(), tally.weights.copy())
        for key, tally in instance.tallies.items()
    }
    return made


def _forked_ledger(ledger: FakeLedger) -> FakeLedger:
    made = object.__new__(FakeLedger)
    for name in _Ledger_names:
        value = getattr(ledger, name)
        setattr(made, name, value.copy() if type(value) in _MUTABLE else value)
    return made
