"""Agreement on the wire: signed votes and proposals, and the unsigned status of a peer.

A `SignedMessage` carries the canonical bytes of its body; PREPARE and COMMIT have the block hash
itself as body. Sent to every validator directly, never by gossip. Source: docs/spec/pbft.md.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, decode
from prsm.protocol.ed25519 import Signer
from prsm.protocol.errors import WireError
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.ids import U32, Bytes32, Digest, Signature, UInt
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX, EVIDENCE_BYTES_MAX, VALIDATORS_MAX
from prsm.protocol.signing import Kind, sha256, statement


class SignedMessage(Record, frozen=True):
    """One statement of one validator."""

    kind: Kind
    epoch: U32
    height: UInt
    view: U32
    body: bytes
    signer: U32
    signature: Signature


class Proposal(Record, frozen=True):
    """Body of PROPOSE: the block, and the NEW_VIEW that allows it in a later view."""

    block: Block
    new_view: Bytes32 | None  # sha256 of the NEW_VIEW body; None in view 0


class Prepared(Record, frozen=True):
    """The highest block a replica knows to be prepared at this height."""

    view: U32
    block_hash: Bytes32
    certificate: Certificate  # of PREPARE votes


class ViewChange(Record, frozen=True):
    """Body of VIEW_CHANGE: why this height, and what must survive."""

    tip_cert: Certificate | None  # commit certificate of height - 1; None at height 1
    prepared: Prepared | None


class NewView(Record, frozen=True):
    """Body of NEW_VIEW: a quorum of VIEW_CHANGEs for one height and view."""

    view_changes: Annotated[
        tuple[SignedMessage, ...], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)
    ]


class Status(Record, frozen=True):
    """Where a peer stands, said now and then. Heights are hints until a certificate shows them."""

    height: UInt  # committed
    view: U32
    tip_hash: Bytes32
    low_mark: UInt
    snapshot_height: UInt  # the latest one it serves; 0 for none
    first_height: UInt  # of the blocks it holds; what is below was pruned
    # The latest vote held of the receiver; of PROPOSE and NEW_VIEW the digest stands for the body.
    your_highest: SignedMessage | None


class Accusation(Record, frozen=True):
    """EVIDENCE, one-way on ctl: canonical `Evidence` that its receiver's ledger can judge."""

    evidence: Annotated[bytes, msgspec.Meta(min_length=1, max_length=EVIDENCE_BYTES_MAX)]


def message_digest(kind: Kind, body: bytes) -> Digest:
    """The hash inside the signed statement of a message.

    Raises:
        WireError: a body that is none of its kind.
    """
    match kind:
        case Kind.PREPARE | Kind.COMMIT:
            if len(body) != 32:
                raise WireError(f"{kind.name} of {len(body)} bytes, a block hash has 32")
            return Digest(body)
        case Kind.PROPOSE:
            proposal = decode(body, Proposal, size_max=CTL_FRAME_BYTES_MAX)
            return block_hash(proposal.block.header)
        case Kind.VIEW_CHANGE | Kind.NEW_VIEW:
            return sha256(body)


def statement_of(message: SignedMessage, digest: bytes, chain_id: bytes) -> bytes:
    """The 62 bytes behind a message's signature.

    Args:
        message: what is signed, or was.
        digest: `message_digest` of it, which whoever opened the message has already.
        chain_id: 8 bytes naming the network.
    """
    return statement(
        chain_id,
        message.kind,
        epoch=message.epoch,
        height=message.height,
        view=message.view,
        digest=digest,
    )


def sign_message(message: SignedMessage, signer: Signer, chain_id: bytes) -> SignedMessage:
    """Return the message with the signer's signature in place of whatever stood there.

    Raises:
        WireError: a body that is none of its kind.
    """
    digest = message_digest(message.kind, message.body)
    signature = signer.sign(statement_of(message, digest, chain_id))
    return msgspec.structs.replace(message, signature=signature)


KINDS: Final[dict[int, type[Record]]] = {1: SignedMessage, 2: Status, 3: Accusation}
