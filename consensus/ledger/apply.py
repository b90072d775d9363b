"""The only door to the state: judge a block, apply it, commit what it changed.

`judge` is total over any decoded block. `apply` computes and changes nothing; its outcome is
made durable by the driver, and only then `commit` makes it the state. One task owns a ledger.
Source: docs/spec/ledger.md, "Blocks".
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import final

from prsm.consensus.ledger.admission import Admission, Checked, Recall, recall_nothing
from prsm.consensus.ledger.beacons import note_block
from prsm.consensus.ledger.closings import forget_jobs
from prsm.consensus.ledger.epochs import certifiers_of, end_block, load_epoch
from prsm.consensus.ledger.errors import Diverged, refusal
from prsm.consensus.ledger.evaluations import Evaluation, draws_of, note_draws
from prsm.consensus.ledger.execution import BlockRefused, Execution, Ground
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.invariants import assert_conserved, assert_sound
from prsm.consensus.ledger.outcome import LedgerTip, Outcome, genesis_tip
from prsm.consensus.ledger.parameters import parameters_of
from prsm.consensus.ledger.proposals import PARAMETERS_KEY
from prsm.consensus.ledger.tree import Tree
from prsm.consensus.ledger.view import View
from prsm.protocol import merkle
from prsm.protocol.certificates import check_certificate
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block, Header, block_hash, is_bound
from prsm.protocol.ids import Digest, Height, Millis
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX, BLOCK_EVIDENCE_MAX
from prsm.protocol.proofs import StateProof
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.protocol.validators import ValidatorSet

_ITEM_BYTES = 5  # msgpack's prefix of one transaction in a body


@final
class Ledger:
    """The state machine under agreement."""

    def __init__(
        self,
        genesis: Genesis,
        state: dict[bytes, bytes],
        *,
        verifier: Verifier,
        tip: LedgerTip | None,
        known: Container[bytes] = frozenset(),
        recall: Recall = recall_nothing,
    ) -> None:
        """Take over a stored state, or start from the genesis.

        Args:
            genesis: of the network.
            state: the whole state, owned from here on; empty: the genesis' is filled in
                (the caller stores `genesis_changes`).
            verifier: libsodium's rule.
            tip: the last block in `state`; None with an empty one.
            known: ids of transactions whose signature admission has checked.
            recall: what admission returned for an id earlier, None for what nobody kept.
        """
        assert (tip is None) == (not state), "a state and its tip belong together"
        if not state:
            state.update((key, value) for key, value in genesis_changes(genesis) if value)
        assert_sound(state)
        self.genesis = genesis
        self.tip = genesis_tip(genesis) if tip is None else tip
        self.view = View(state)
        self.parameters = parameters_of(state)
        self.admission = Admission(
            genesis.chain_id, self.parameters, verifier, known=known, recall=recall
        )
        self._state = state
        self._verifier = verifier
        self.epoch = load_epoch(state)
        self._certifiers = certifiers_of(state, self.tip.height)
        self._ground = Ground(
            genesis.chain_id, self.parameters, self.epoch.validators, verifier, self.admission
        )
        self._tree = Tree(genesis.parameters.tree_bits, state.items())
        self._certified_root: Digest | None = None
        self._judged: tuple[Digest, Outcome] | None = None
        self._draws: tuple[Evaluation, ...] | None = None  # of the tip, once a block was run on it

    @property
    def height(self) -> Height:
        """Height of the last committed block."""
        return self.tip.height

    @property
    def state_root(self) -> Digest:
        """Root of the committed state; the next header carries it."""
        return self._tree.root

    @property
    def receipts_root(self) -> Digest:
        """Root over the last block's receipts; the next header carries it."""
        return self.tip.receipts_root

    def validators(self, height: int) -> ValidatorSet:
        """The set that signs a height: the tip's, or the one after it."""
        return self.epoch.validators if height > self.height else self._certifiers

    def judge(self, block: Block, *, wall_ms: int | None) -> str | None:
        """Say what is wrong with a block, None if nothing is.

        Args:
            block: decoded, of any sender.
            wall_ms: this node's clock for a fresh proposal; None for a re-proposed or synced
                block, which no time window may refuse.
        """
        try:
            self._check_header(block.header)
            if wall_ms is not None:
                self._check_window(block.header, wall_ms)
            self._check_body(block)
            self._judged = (block_hash(block.header), self._execute(block))
        except BlockRefused as refused:
            return str(refused)
        return None

    def judged(self, name: bytes) -> Outcome | None:
        """What `apply` returns for the block judged last, without computing; None for others."""
        return self._judged[1] if self._judged is not None and self._judged[0] == name else None

    def apply(self, block: Block) -> Outcome:
        """Execute a judged or certified block; the ledger itself stays as it is.

        Raises:
            Diverged: this node's state contradicts the block.
        """
        judged = self._judged
        if judged is not None and judged[0] == block_hash(block.header):
            return judged[1]
        reason = self.judge(block, wall_ms=None)
        if reason is not None or self._judged is None:
            raise Diverged(
                f"certified block {block.header.height} contradicts this node's state: {reason}",
                hint="keep the data folder for inspection and start again with an empty one",
            )
        return self._judged[1]

    def commit(self, outcome: Outcome) -> Iterator[int]:
        """Make an outcome the state, after it is durable.

        Returns:
            The work left on the state's tree, in parts, each told by its cost in nodes. Whoever
            reads a root or a proof before does the rest of it.
        """
        assert outcome.parent == self.tip.block_hash, "an outcome of another state"
        for key, value in outcome.changes:
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = value
        self._certified_root = self._tree.root
        self._tree.update(outcome.changes)
        self.tip = outcome.tip
        self._certifiers, self.epoch = self.epoch.validators, outcome.epoch
        if any(key == PARAMETERS_KEY for key, _ in outcome.changes):
            self.parameters = parameters_of(self._state)
            self.admission.follow(self.parameters)
        self._ground = replace(
            self._ground, validators=self.epoch.validators, parameters=self.parameters
        )
        self._judged = self._draws = None
        return self._tree.settling()

    def adopt(self, other: "Ledger") -> None:
        """Become another ledger of this network, of a higher height, after it is durable.

        For a snapshot that takes the place of this state. Whoever reads `view` reads the new
        state from here on; `other` is used up.
        """
        assert other.genesis.digest == self.genesis.digest
        assert other.height > self.height, "a snapshot from the past"
        self._state.clear()
        self._state.update(other._state)  # noqa: SLF001 - its own class
        # Admission stays too: the door holds it, with what it has checked.
        mine = {"_state": self._state, "view": self.view, "admission": self.admission}
        vars(self).update({**vars(other), **mine})
        self.admission.follow(self.parameters)
        self._ground = replace(self._ground, admission=self.admission)

    def select(
        self, candidates: Iterable[bytes], *, time_ms: int, bytes_max: int, count_max: int
    ) -> tuple[bytes, ...]:
        """Choose transactions for a proposal: those that can run, in the order offered.

        Args:
            candidates: best first; a sender's in the order of their nonces.
            time_ms: of the proposed block.
            bytes_max: of all chosen ones, encoded.
            count_max: of them.
        """
        execution = self._execution(time_ms)
        chosen: list[bytes] = []
        for raw in candidates:
            size = len(raw) + _ITEM_BYTES
            if len(chosen) >= count_max:
                break
            if size > bytes_max:
                continue
            try:
                execution.run(raw)
            except BlockRefused:
                continue
            chosen.append(raw)
            bytes_max -= size
        return tuple(chosen)

    def select_evidence(
        self, candidates: Iterable[bytes], *, time_ms: int, proposer: int
    ) -> tuple[bytes, ...]:
        """Choose evidence for a proposal: what convicts somebody not yet punished for it."""
        execution = self._execution(time_ms)
        chosen: list[bytes] = []
        for raw in candidates:
            if len(chosen) >= BLOCK_EVIDENCE_MAX:
                break
            try:
                execution.punish(raw, proposer=proposer)
            except BlockRefused:
                continue
            chosen.append(raw)
        return tuple(chosen)

    def rehearse(self, checked: Checked, *, time_ms: int) -> TxReceipt:
        """Say what a transaction would do if it were next, so that a person hears it at once.

        Raises:
            BadNonce, InsufficientFunds, Expired: it may not stand in a block now.
            LocalError: it would only cost its fee; the class says why.
        """
        execution = self._execution(time_ms)
        self.admission.check_turn(checked, execution.state, time_ms=time_ms)
        receipt = execution.execute(checked)
        if receipt.code is not Code.DONE:
            raise refusal(receipt.code)
        return receipt

    def prove(self, key: bytes) -> StateProof:
        """Proof of an entry, or of its absence, under `state_root`."""
        return self._tree.prove(key)

    def prove_certified(self, key: bytes) -> StateProof | None:
        """The same under the *tip header's* root: the state before the last block.

        None right after a start, until a block is committed.
        """
        return None if self._certified_root is None else self._tree.prove_before(key)

    def _execution(self, time_ms: int) -> Execution:
        parent = self.tip.block_hash
        execution = Execution(
            self._state,
            self._ground,
            height=Height(self.height + 1),
            time_ms=Millis(time_ms),
            parent=parent,
        )
        # A block is looked at many times: proposing, judging, and for whoever rehearses a payment.
        if self._draws is None:
            self._draws = draws_of(self._state, chain_id=self.genesis.chain_id, parent=parent)
        note_draws(execution.state, self._draws)
        return execution

    def _execute(self, block: Block) -> Outcome:
        header = block.header
        execution = self._execution(header.time_ms)
        for raw in block.body.evidence:
            execution.punish(raw, proposer=header.proposer)
        for raw in block.body.transactions:
            execution.run(raw)
        epoch, events = end_block(execution.state, self.epoch, block, self._ground.parameters)
        proposer = self.epoch.validators.validators[header.proposer].operator
        name = block_hash(header)
        note_block(execution.state, height=header.height, name=name, proposer=proposer)
        keep_ms = self._ground.parameters.job_keep_ms
        forget_jobs(execution.state, time_ms=header.time_ms, keep_ms=keep_ms)
        changes = execution.state.changes()
        assert_conserved(self._state, execution.state, (key for key, _ in changes))
        tip = LedgerTip(
            Height(header.height),
            name,
            Millis(header.time_ms),
            merkle.root(execution.receipts),
        )
        return Outcome(
            parent=self.tip.block_hash,
            tip=tip,
            changes=changes,
            receipts=tuple(execution.receipts),
            tx_ids=execution.tx_ids,
            events=(*execution.events, *events),
            epoch=epoch,
            senders=frozenset(execution.senders),
        )

    def _check_header(self, header: Header) -> None:
        validators = self.epoch.validators
        for what, found, expected in (
            ("version", header.version, 1),
            ("chain id", header.chain_id, self.genesis.chain_id),
            ("height", header.height, self.height + 1),
            ("epoch", header.epoch, validators.epoch),
            ("previous hash", header.prev_hash, self.tip.block_hash),
            ("state root", header.state_root, self.state_root),
            ("receipts root", header.receipts_root, self.receipts_root),
            ("validators", header.validators_hash, validators.digest),
            ("next validators", header.next_validators_hash, self.epoch.following_hash),
        ):
            if found != expected:
                raise BlockRefused(f"{what} {_text(found)}, expected {_text(expected)}")
        if header.proposer >= len(validators):
            raise BlockRefused(f"proposer {header.proposer} of {len(validators)} validators")
        if header.time_ms <= self.tip.time_ms:
            raise BlockRefused(f"time {header.time_ms} ms, its parent's is {self.tip.time_ms}")

    def _check_window(self, header: Header, wall_ms: int) -> None:
        window = self.genesis.parameters.clock_window_ms
        if abs(header.time_ms - wall_ms) > window:
            raise BlockRefused(
                f"time {header.time_ms} ms, this clock says {wall_ms}, at most {window} apart"
            )

    def _check_body(self, block: Block) -> None:
        if not is_bound(block):
            raise BlockRefused("the body is not the one the header commits to")
        size = len(encode(block.body))
        if size > BLOCK_BODY_BYTES_MAX:
            raise BlockRefused(f"body of {size} bytes, at most {BLOCK_BODY_BYTES_MAX}")
        certificate = block.body.prev_cert
        if certificate is None or self.height == 0:
            if certificate is not None or self.height > 0:
                raise BlockRefused("a parent's certificate where none belongs, or none")
            return
        if (certificate.height, certificate.block_hash) != (self.height, self.tip.block_hash):
            raise BlockRefused(f"certificate of another block at height {certificate.height}")
        try:
            check_certificate(
                certificate,
                self.validators(certificate.height),
                chain_id=self.genesis.chain_id,
                verifier=self._verifier,
                kind=Kind.COMMIT,
            )
        except PrsmError as error:
            raise BlockRefused(f"parent's certificate: {error.what}") from error


def _text(value: int | bytes) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)
