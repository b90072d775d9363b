"""A network of one process: real keys, real blocks, real certificates, no agreement.

For tests, golden vectors and measurements of the ledger: blocks are made, judged, applied and
certified at once. Keys come from small numbers, so every run makes the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import msgspec

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.fees import fee_min, operations_of
from prsm.consensus.ledger.outcome import Outcome
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate, certificate_hash, certify
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import GENESIS_VERSION, Allocation, Genesis, Parameters
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.signing import Kind, sha256, statement
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import TxReceipt
from prsm.protocol.validators import Validator

START_MS = 1_767_225_600_000  # 2026-01-01
FTNS = 1_000_000


def signer_of(number: int) -> Ed25519Signer:
    """The key of a small number; 0-31 consensus, 32-63 operators, 64 and above accounts."""
    return Ed25519Signer(sha256(b"prsm test key", number.to_bytes(4, "big")))


def small_genesis(
    *,
    stakes: Sequence[int] = (100 * FTNS,) * 4,
    balances: Mapping[int, int] | None = None,
    parameters: Parameters | None = None,
) -> Genesis:
    """A genesis of numbered keys.

    Args:
        stakes: micro-FTNS bonded, by validator.
        balances: key number -> micro-FTNS; by default the accounts 64-71 and the
            operators 32-35 own 1,000 FTNS each.
        parameters: the defaults with a tree of 2^8 buckets if None.
    """
    funded = (*range(32, 36), *range(64, 72))
    given = dict.fromkeys(funded, 1_000 * FTNS) if balances is None else balances
    return Genesis(
        version=GENESIS_VERSION,
        name="test",
        development=True,
        time_ms=START_MS,
        validators=tuple(
            Validator(
                operator=signer_of(32 + i).public_key,
                consensus=signer_of(i).public_key,
                peer_id=f"peer{i}",
                stake=stake,
            )
            for i, stake in enumerate(stakes)
        ),
        allocations=tuple(
            Allocation(account=signer_of(number).public_key, amount=amount)
            for number, amount in given.items()
        ),
        parameters=Parameters(tree_bits=8) if parameters is None else parameters,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """A committed block of this chain."""

    block: Block
    certificate: Certificate
    outcome: Outcome

    def receipts(self) -> list[TxReceipt]:
        """What became of its transactions."""
        return [
            decode(raw, TxReceipt, size_max=TRANSACTION_BYTES_MAX) for raw in self.outcome.receipts
        ]


@final
class Chain:
    """Makes one certified block after another over a ledger."""

    def __init__(self, genesis: Genesis, ledger: Ledger | None = None) -> None:
        self.genesis = genesis
        self.ledger = ledger or Ledger(genesis, {}, verifier=Ed25519Verifier(), tip=None)
        self.made: list[Made] = []
        self.signers = {bytes(signer_of(i).public_key): signer_of(i) for i in range(32)}

    def order(
        self,
        sender: int,
        payload: Record,
        *,
        nonce: int | None = None,
        fee: int | None = None,
        ahead_ms: int = 3_600_000,
    ) -> bytes:
        """Sign a transaction.

        Args:
            sender: number of the key.
            payload: of a registered kind.
            nonce: the committed next one if None.
            fee: a sufficient one if None.
            ahead_ms: life from the tip's time.
        """
        key = signer_of(sender)
        raw = encode(payload)
        transaction = Transaction(
            version=1,
            chain_id=self.genesis.chain_id,
            kind=PAYLOADS.number(type(payload)),
            sender=key.public_key,
            nonce=self.ledger.view.nonce(key.public_key) if nonce is None else nonce,
            fee=self.order_fee(payload) if fee is None else fee,
            payload=raw,
            valid_until_ms=self.ledger.tip.time_ms + ahead_ms,
            signature=bytes(64),
        )
        return encode(sign_transaction(transaction, key))

    def order_fee(self, payload: Record) -> int:
        """A fee that suffices for a payload in any envelope."""
        return fee_min(
            self.ledger.parameters,
            size_bytes=len(encode(payload)) + 256,
            operations=operations_of(payload),
        )

    def propose(
        self, *transactions: bytes, step_ms: int = 1_000, evidence: Sequence[bytes] = ()
    ) -> Block:
        """Make the next block, whatever it holds."""
        ledger, tip = self.ledger, self.ledger.tip
        parent = self.made[-1].certificate if self.made else None
        body = Body(prev_cert=parent, evidence=tuple(evidence), transactions=transactions)
        header = Header(
            version=1,
            chain_id=self.genesis.chain_id,
            height=tip.height + 1,
            view=0,
            epoch=ledger.epoch.number,
            prev_hash=tip.block_hash,
            prev_cert_hash=certificate_hash(parent),
            tx_root=merkle.root(transactions),
            state_root=ledger.state_root,
            receipts_root=ledger.receipts_root,
            validators_hash=ledger.epoch.validators.digest,
            next_validators_hash=ledger.epoch.following_hash,
            evidence_root=merkle.root(body.evidence),
            time_ms=tip.time_ms + step_ms,
            proposer=0,
        )
        return Block(header=header, body=body)

    def certify(self, header: Header, *, signers: Sequence[int] | None = None) -> Certificate:
        """Sign a header's hash with COMMIT votes: of all validators, or of some."""
        members = self.ledger.validators(header.height).validators
        voters = range(len(members)) if signers is None else signers
        message = statement(
            header.chain_id,
            Kind.COMMIT,
            epoch=header.epoch,
            height=header.height,
            view=header.view,
            digest=block_hash(header),
        )
        return certify(
            Kind.COMMIT,
            epoch=header.epoch,
            height=header.height,
            view=header.view,
            block_hash=block_hash(header),
            votes={i: self.signers[members[i].consensus].sign(message) for i in voters},
        )

    def add(
        self, *transactions: bytes, step_ms: int = 1_000, evidence: Sequence[bytes] = ()
    ) -> Made:
        """Make, judge, apply, certify and commit the next block."""
        block = self.propose(*transactions, step_ms=step_ms, evidence=evidence)
        reason = self.ledger.judge(block, wall_ms=None)
        assert reason is None, reason
        outcome = self.ledger.apply(block)
        self.ledger.commit(outcome)
        made = Made(block, self.certify(block.header), outcome)
        self.made.append(made)
        return made

    def send(self, sender: int, payload: Record, *, step_ms: int = 1_000) -> TxReceipt:
        """Commit one transaction in a block of its own and say what became of it."""
        return self.add(self.order(sender, payload), step_ms=step_ms).receipts()[0]


def altered(block: Block, **changes: object) -> Block:
    """A block with other header fields; its body stays."""
    return msgspec.structs.replace(block, header=msgspec.structs.replace(block.header, **changes))
