"""A light client: what one untrusted node says, checked against a validator set one trusts.

Trusts the set of an epoch (from the genesis, or by its hash). Knows headers, certificates and
proofs; must not know the ledger's rules. Source: docs/spec/ledger.md, "Light client".
"""

from dataclasses import dataclass
from typing import Self

from prsm.protocol.certificates import Certificate, check_certificate
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import WrongChain
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Header, block_hash
from prsm.protocol.proofs import (
    BadProof,
    InclusionProof,
    ProvenState,
    ProvenTransaction,
    proven_value,
    require_included,
)
from prsm.protocol.signing import Kind
from prsm.protocol.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed without proof: the network, and who signs its blocks."""

    chain_id: bytes
    validators: ValidatorSet
    verifier: Verifier

    @classmethod
    def of_genesis(cls, genesis: Genesis, verifier: Verifier) -> Self:
        """Trust the first document of a network."""
        return cls(genesis.chain_id, genesis.first_validators(), verifier)

    def check_header(self, header: Header, certificate: Certificate) -> None:
        """Check that a quorum of the trusted set committed to this header.

        Raises:
            WrongChain: a header of another network.
            BadProof: of another epoch or set, or a certificate of another block.
            WireError: a certificate of the wrong kind, shape or weight.
            BadSignature: a signature that does not hold.
        """
        if header.chain_id != self.chain_id:
            raise WrongChain(
                f"header of network {header.chain_id.hex()}, expected {self.chain_id.hex()}"
            )
        if (header.epoch, header.validators_hash) != (
            self.validators.epoch,
            self.validators.digest,
        ):
            raise BadProof(f"header of epoch {header.epoch} names another validator set")
        if (certificate.height, certificate.block_hash) != (header.height, block_hash(header)):
            raise BadProof(f"certificate of another block than {header.height}")
        check_certificate(
            certificate,
            self.validators,
            chain_id=self.chain_id,
            verifier=self.verifier,
            kind=Kind.COMMIT,
        )

    def check_state(self, proven: ProvenState) -> bytes | None:
        """Value of a state entry before the header's block, None if it is shown to be absent.

        Raises:
            RemoteError: header, certificate or proof do not hold (see `check_header`).
        """
        self.check_header(proven.header, proven.certificate)
        return proven_value(proven.proof, proven.header.state_root)

    def check_transaction(self, proven: ProvenTransaction) -> None:
        """Check that a transaction stands in a committed block.

        Raises:
            RemoteError: header, certificate or proof do not hold (see `check_header`).
        """
        self.check_header(proven.header, proven.certificate)
        require_included(proven.transaction, proven.place, proven.header.tx_root)

    def check_receipt(
        self, receipt: bytes, place: InclusionProof, header: Header, certificate: Certificate
    ) -> None:
        """Check a transaction's receipt against the header *after* its block.

        Raises:
            RemoteError: header, certificate or proof do not hold (see `check_header`).
        """
        self.check_header(header, certificate)
        require_included(receipt, place, header.receipts_root)
