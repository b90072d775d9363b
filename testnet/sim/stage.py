"""Single cores whose messages wait in a queue until a script or a test moves them.

Payloads, verdicts and execution are answered at once. Knows: cores, their durable things, what
they order, in words. Must not know: the script's language (testnet/sim/scenario).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.effects import (
    Accuse,
    Broadcast,
    Effect,
    Execute,
    Fetch,
    NeedPayload,
    Observe,
    Persist,
    Resume,
    Send,
    SetTimer,
    Validate,
    order,
)
from prsm.consensus.pbft.events import (
    Applied,
    Draft,
    Event,
    Heard,
    Payload,
    Received,
    Resumed,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.consensus.pbft.records import Entered, Held, Left, Locked, LowMark, Voted, unpack
from prsm.consensus.pbft.state import State
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate, certificate_hash, certify
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.messages.consensus import (
    NewView,
    Prepared,
    Proposal,
    SignedMessage,
    Status,
    ViewChange,
    sign_message,
)
from prsm.protocol.signing import Kind, statement
from prsm.protocol.validators import Validator
from prsm.testnet.sim.ledger import FakeLedger
from prsm.testnet.sim.plan import index_of, peer_of
from prsm.testnet.sim.signing import KeyedSigner, KeyedVerifier

PARAMETERS: Final = Parameters(
    timeout_base_ms=400, timeout_cap_ms=2_000, block_gap_min_ms=0, heartbeat_block_ms=60_000
)
START_MS: Final = 1_000


Seats = Sequence[int]  # stake of each actor: 0 for no member, negative if with its second key


@dataclass(slots=True)
class Actor:
    """One core, what it made durable, and its mempool."""

    index: int
    config: Config
    signer: KeyedSigner
    ledger: FakeLedger
    state: State | None
    log: list[bytes] = field(default_factory=list)
    pool: list[bytes] = field(default_factory=list)
    proposed: SignedMessage | None = None


@final
class Stage:
    """A network whose messages wait until the script moves them."""

    def __init__(self, stakes: Seats, borders: Mapping[int, Seats] | None = None) -> None:
        """Set up the genesis and everybody who is a member at any time.

        Args:
            stakes: of each actor at the genesis, which sets epochs 0 and 1.
            borders: last height of an epoch -> stakes in the epoch after the next.
        """
        keys = [[KeyedSigner(key, index) for key in (0, 1)] for index in range(len(stakes))]
        verifier = KeyedVerifier([signer for pair in keys for signer in pair])

        def seated(seats: Seats) -> tuple[Validator, ...]:
            return tuple(
                Validator(
                    bytes([index + 1]) * 32, pair[stake < 0].public_key, peer_of(index), abs(stake)
                )
                for index, (pair, stake) in enumerate(zip(keys, seats, strict=True))
                if stake
            )

        genesis = Genesis(1, "scenario", True, 0, seated(stakes), (), PARAMETERS)  # noqa: FBT003 - field `development`
        ends = {height: seated(seats) for height, seats in (borders or {}).items()}
        self.now_ms = START_MS
        self.lines: list[str] = []
        self.queue: list[tuple[int, int, Opened]] = []
        self.fetches: list[tuple[int, Fetch]] = []
        self.names: dict[bytes, str] = {}
        self.actors = []
        for index, pair in enumerate(keys):
            config = Config.of(genesis, signers=pair, verifier=verifier)
            ledger = FakeLedger(genesis, borders=ends)
            state = replica.start(config, ledger.tip, (), None)
            self.actors.append(Actor(index, config, pair[0], ledger, state))

    def take(self, actor: Actor, event: Event) -> None:
        """Let a core take an event, and do at once what needs no message."""
        if actor.state is None:
            return
        for group in order(replica.step(actor.state, event, self.now_ms)):
            for record in group.records:
                actor.log.append(record)
                self.say(actor, "persist " + self.record_text(record))
            for effect in group.effects:
                self.do(actor, effect)

    def do(self, actor: Actor, effect: Effect) -> None:  # noqa: C901 - dispatch
        """Carry out one order."""
        match effect:
            case Broadcast(message):
                self.say(actor, "broadcast " + self.message_text(open_message(message)))
                self.send(actor.index, message, self.others(actor, message.epoch))
            case Send(peer, message):
                to = index_of(peer)
                self.say(actor, f"send to {to} " + self.message_text(open_message(message)))
                self.send(actor.index, message, [to])
            case NeedPayload(height, view):
                draft = Draft(tuple(actor.pool), (), self.now_ms)
                self.take(actor, Payload(height, view, draft))
            case Validate(block, digest):
                verdict = actor.ledger.judge(block, self.now_ms)
                if not verdict:
                    self.say(actor, f"finds {self.name(digest)} invalid")
                self.take(actor, Verdict(digest, verdict))
            case Execute():
                self.execute(actor, effect)
            case Fetch(first, last, digest, peers):
                what = f"{first}..{last}" if digest is None else f"{first} {self.name(digest)}"
                asked = numbers_text([index_of(peer) for peer in peers])
                self.say(actor, f"fetch {what} from {asked or 'anybody'}")
                self.fetches.append((actor.index, effect))
            case Accuse(first_message, second_message):
                both = (open_message(first_message), open_message(second_message))
                texts = " and ".join(self.message_text(opened) for opened in both)
                self.say(actor, f"accuse {first_message.signer} of {texts}")
            case Observe(reason):
                self.say(actor, f"observe: {reason}")
            case Resume(height):
                assert actor.state is not None
                actor.log = list(heights.surviving(actor.state, height - 1))
                self.say(actor, f"resume at {height}")
                self.take(actor, Resumed(height))
            case SetTimer() | Persist():
                pass

    @staticmethod
    def others(actor: Actor, epoch: int) -> list[int]:
        """The other members of an epoch, as an actor knows them."""
        found = next(known for known in actor.ledger.tip.sets if known.epoch == epoch)
        members = [index_of(member.peer_id) for member in found.validators]
        return [index for index in members if index != actor.index]

    def execute(self, actor: Actor, effect: Execute) -> None:
        """Let the ledger execute a block, durably, and tell the core."""
        height = effect.block.header.height
        certificate = effect.certificate
        signers = numbers_text(certificate.signer_indexes())
        name = self.name(effect.block_hash)
        self.say(actor, f"execute {height} {name}, view {certificate.view} of {signers}")
        ledger = actor.ledger
        ledger.apply(effect.block, certificate)
        actor.pool = [tx for tx in actor.pool if tx not in ledger.done]
        tip = ledger.tip
        self.take(actor, Waiting(bool(actor.pool)))
        applied = Applied(
            height,
            effect.block_hash,
            tip.state_root,
            tip.receipts_root,
            tip.epoch,
        )
        self.take(actor, applied)

    def send(self, sender: int, message: SignedMessage, receivers: Sequence[int]) -> None:
        """Queue a message for each receiver."""
        opened = open_message(message)
        if message.kind is Kind.PROPOSE:
            self.actors[sender].proposed = message
        self.queue.extend((sender, receiver, opened) for receiver in receivers)

    def say(self, actor: Actor, text: str) -> None:
        """Write a line of the output."""
        self.lines.append(f"{actor.index}: {text}")

    def name(self, digest: bytes) -> str:
        """The letter of a block."""
        return self.names.setdefault(digest, chr(ord("A") + len(self.names)))

    def message_text(self, opened: Opened) -> str:
        """A message in a few words."""
        message = opened.message
        text = f"{message.kind.name} {message.height}/{message.view}"
        if opened.view_change is not None:
            prepared = opened.view_change.prepared
            held = "nothing prepared"
            if prepared is not None:
                held = f"{self.name(prepared.block_hash)} prepared in {prepared.view}"
            return f"{text}, {held}"
        if message.kind is Kind.NEW_VIEW:
            return (
                f"{text} of {numbers_text([part.message.signer for part in opened.view_changes])}"
            )
        return f"{text} {self.name(opened.digest)}"

    def record_text(self, raw: bytes) -> str:
        """A log record in a few words."""
        match unpack(raw):
            case LowMark(height=height):
                return f"low mark {height}"
            case Voted(kind=kind, height=height, view=view, block_hash=digest):
                return f"{kind.name} {height}/{view} {self.name(digest)}"
            case Locked(height=height, view=view, certificate=certificate):
                return f"prepared {height}/{view} {self.name(certificate.block_hash)}"
            case Held(height=height, block=block):
                return f"holds {height} {self.name(block_hash(block.header))}"
            case Left(height=height, view=view):
                return f"left for {height}/{view}"
            case Entered(new_view=new_view):
                return f"entered {new_view.height}/{new_view.view}"


@final
class Bench:
    """Core 3 of four under test; the test signs for 0, 1 and 2, and moves the clock."""

    def __init__(self, *, greeted: bool = True, blocks: int = 0) -> None:
        self.stage = Stage((1, 1, 1, 1))
        self.now_ms = START_MS
        if blocks:
            self.grow(blocks)
        actor = self.stage.actors[3]
        assert actor.state is not None
        self.config, self.ledger, self.log = actor.config, actor.ledger, actor.log
        self.state: State = replica.start(self.config, self.ledger.tip, (), None)
        if greeted:
            for peer in (0, 1):
                self.take(Heard(peer_of(peer), self.status(height=self.state.tip.height)))

    def grow(self, blocks: int) -> None:
        """Let all four agree on some blocks first."""
        for actor in self.stage.actors:
            for peer in range(4):
                if peer != actor.index:
                    self.stage.take(actor, Heard(peer_of(peer), self.status()))
        for number in range(blocks // 2):
            for actor in self.stage.actors:
                actor.pool.append(b"t%d" % number)
                self.stage.take(actor, Waiting(transactions=True))
            while self.stage.queue:
                queue, self.stage.queue = self.stage.queue, []
                for _, receiver, opened in queue:
                    self.stage.take(self.stage.actors[receiver], Received(opened))

    @staticmethod
    def status(height: int = 0, highest: SignedMessage | None = None) -> Status:
        """A STATUS of a peer at this height."""
        return Status(height, 0, bytes(32), height, 0, 1, highest)

    def take(self, event: Event, after_ms: int = 0) -> list[Effect]:
        """Let time pass, then let the core take an event."""
        self.now_ms += after_ms
        return replica.step(self.state, event, self.now_ms)

    def hear(self, message: SignedMessage) -> list[Effect]:
        """Let the core hear a message."""
        return self.take(Received(open_message(message)))

    def sign(
        self, kind: Kind, signer: int, body: bytes, *, view: int = 0, height: int = 0
    ) -> SignedMessage:
        """A message of a validator, of the current height unless told otherwise."""
        height = height or self.state.instance.height
        unsigned = SignedMessage(kind, 0, height, view, body, signer, b"")
        return sign_message(unsigned, self.stage.actors[signer].signer, self.config.chain_id)

    def block(
        self, *, view: int = 0, proposer: int = 0, transactions: tuple[bytes, ...] = (b"t",)
    ) -> Block:
        """A good block on the core's tip."""
        tip = self.state.tip
        header = Header(
            version=1,
            chain_id=self.config.chain_id,
            height=tip.height + 1,
            view=view,
            epoch=0,
            prev_hash=tip.block_hash,
            prev_cert_hash=certificate_hash(tip.certificate),
            tx_root=merkle.root(transactions),
            state_root=tip.state_root,
            receipts_root=tip.receipts_root,
            validators_hash=tip.validators.digest,
            next_validators_hash=tip.epoch.following_hash,
            evidence_root=merkle.root(()),
            time_ms=self.now_ms + tip.height,
            proposer=proposer,
        )
        return Block(header, Body(tip.certificate, (), transactions))

    def propose(
        self, block: Block, *, view: int = 0, new_view: bytes | None = None, signer: int = 0
    ) -> list[Effect]:
        """Let the core hear a PROPOSE."""
        body = encode(Proposal(block, new_view))
        return self.hear(
            self.sign(Kind.PROPOSE, signer, body, view=view, height=block.header.height)
        )

    def votes(
        self, kind: Kind, digest: bytes, *, view: int = 0, signers: tuple[int, ...] = (0, 1, 2)
    ) -> list[Effect]:
        """Let the core hear one vote of each signer."""
        out: list[Effect] = []
        for signer in signers:
            out += self.hear(self.sign(kind, signer, digest, view=view))
        return out

    def decide(self) -> None:
        """Let the core hear all of a height: a block by validator 0 and everybody's votes."""
        actor = self.stage.actors[3]
        actor.state = self.state
        block = self.block(transactions=(b"t%d" % self.state.tip.height,))
        digest = block_hash(block.header)
        self.stage.now_ms = self.now_ms = self.now_ms + 1
        assert self.state.instance.schedule.at(0) == 0
        for message in (
            self.sign(Kind.PROPOSE, 0, encode(Proposal(block, None))),
            *(self.sign(Kind.PREPARE, signer, digest) for signer in (0, 1, 2)),
            *(self.sign(Kind.COMMIT, signer, digest) for signer in (0, 1, 2)),
        ):
            self.stage.take(actor, Received(open_message(message)))

    def certificate(
        self,
        kind: Kind,
        digest: bytes,
        *,
        view: int = 0,
        height: int = 0,
        signers: tuple[int, ...] = (0, 1, 2),
    ) -> Certificate:
        """A certificate by these signers, of the current height unless told otherwise."""
        height = height or self.state.instance.height
        signed = statement(
            self.config.chain_id, kind, epoch=0, height=height, view=view, digest=digest
        )
        votes = {signer: self.stage.actors[signer].signer.sign(signed) for signer in signers}
        return certify(kind, epoch=0, height=height, view=view, block_hash=digest, votes=votes)

    def change(
        self,
        signer: int,
        view: int,
        prepared: Prepared | None = None,
        tip_cert: Certificate | None = None,
    ) -> SignedMessage:
        """A VIEW_CHANGE of the current height."""
        body = encode(ViewChange(tip_cert or self.state.tip.certificate, prepared))
        return self.sign(Kind.VIEW_CHANGE, signer, body, view=view)

    def new_view(
        self, view: int, changes: list[SignedMessage], *, signer: int | None = None
    ) -> SignedMessage:
        """A NEW_VIEW of the current height, by the view's proposer unless told otherwise."""
        proposer = self.state.instance.schedule.at(view) if signer is None else signer
        return self.sign(Kind.NEW_VIEW, proposer, encode(NewView(tuple(changes))), view=view)


def numbers_text(numbers: Sequence[int]) -> str:
    """Numbers separated by commas."""
    return ",".join(str(number) for number in numbers)
