"""A light client: what one untrusted node says, checked against a validator set one trusts.

Trusts the set of an epoch (from the genesis, or by its hash), and goes from there: along one
header of each epoch, or over many at once while more than a third of the trusted stake signed.
Knows headers, certificates and proofs; must not know the ledger's rules or the time: the caller
gives it. Source: docs/spec/ledger.md, "Light client".
"""

from dataclasses import dataclass, replace
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
from prsm.protocol.validators import STAKE_TOTAL_MAX, Members, ValidatorSet


def set_of(members: Members) -> ValidatorSet:
    """The set that somebody shows.

    Raises:
        BadProof: no set, two members share a key or their stake is too large.
    """
    keys = {member.consensus for member in members.validators}
    total = sum(member.stake for member in members.validators)
    if len(keys) != len(members.validators) or total > STAKE_TOTAL_MAX:
        raise BadProof(f"members of epoch {members.epoch} that are no set", penalty=100)
    return ValidatorSet(members)


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed without proof: the network, and who signs its blocks."""

    chain_id: bytes
    validators: ValidatorSet
    verifier: Verifier
    time_ms: int = 0  # block time at which the set was known to sign

    @classmethod
    def of_genesis(cls, genesis: Genesis, verifier: Verifier) -> Self:
        """Trust the first document of a network."""
        return cls(genesis.chain_id, genesis.first_validators(), verifier, genesis.time_ms)

    def advance(self, header: Header, certificate: Certificate, following: Members) -> Self:
        """Trust the set after: a header of the trusted epoch announces it.

        Args:
            header: any of the trusted epoch.
            certificate: of that header.
            following: members of the epoch after.

        Raises:
            BadProof: other members than the announced ones.
            RemoteError: header or certificate do not hold (see `check_header`).
        """
        self.check_header(header, certificate)
        found = set_of(following)
        named = header.epoch + 1, header.next_validators_hash
        if (found.epoch, found.digest) != named:
            raise BadProof(f"other members of epoch {named[0]} than announced", penalty=100)
        return replace(self, validators=found, time_ms=max(self.time_ms, header.time_ms))

    def skip(
        self, header: Header, certificate: Certificate, own: Members, *, now_ms: int, period_ms: int
    ) -> Self:
        """Trust the set of a later epoch, whose header members of more than a third signed.

        One of those is honest, as long as what they may lose is still at stake: so the trust must
        be younger than the trusting period, two thirds of the unbonding time.

        Args:
            header: of any later epoch.
            certificate: of that header, by its own set.
            own: members of the header's epoch.
            now_ms: the caller's wall clock.
            period_ms: the trusting period.

        Raises:
            BadProof: the trust is too old, the epoch is not later, or too few trusted keys signed.
            RemoteError: header or certificate do not hold against their own set.
        """
        if now_ms - self.time_ms >= period_ms:
            raise BadProof(f"trust is {now_ms - self.time_ms} ms old, good for {period_ms}")
        if header.epoch <= self.validators.epoch:
            raise BadProof(f"header of epoch {header.epoch}, trusted is {self.validators.epoch}")
        later = replace(self, validators=set_of(own), time_ms=max(self.time_ms, header.time_ms))
        later.check_header(header, certificate)
        members = later.validators.validators
        signers = [members[index].consensus for index in certificate.signer_indexes()]
        known = [self.validators.index_of(key) for key in signers]
        weight = self.validators.weight(index for index in known if index is not None)
        if weight < self.validators.weak_quorum:
            raise BadProof(
                f"header signed by {weight} of the trusted stake, needed are "
                f"{self.validators.weak_quorum}"
            )
        return later

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
