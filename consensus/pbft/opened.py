"""Signed messages with their body decoded once: by admission, in a thread, for everybody after it.

Knows: what the body of each kind is, and which digest its signature covers. Must not know: the
state of a replica. What `open_message` returns is well-formed, not yet believed.
"""

from msgspec import Struct, structs

from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import WireError
from prsm.protocol.headers import block_hash, is_bound
from prsm.protocol.ids import Digest
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import (
    NewView,
    Proposal,
    SignedMessage,
    ViewChange,
    message_digest,
    statement_of,
)
from prsm.protocol.signing import Kind, sha256
from prsm.protocol.validators import ValidatorSet


class Opened(Struct, frozen=True):
    """A message, the digest inside its signed statement, and its decoded body."""

    message: SignedMessage
    digest: Digest
    proposal: Proposal | None = None  # of PROPOSE; its header commits to its body
    view_change: ViewChange | None = None  # of VIEW_CHANGE
    view_changes: tuple["Opened", ...] = ()  # of NEW_VIEW


def open_message(message: SignedMessage) -> Opened:
    """Decode the body of a message.

    Raises:
        WireError: a body that is none of its kind, a header that does not commit to its body,
            or a NEW_VIEW that holds anything but VIEW_CHANGEs of its own height and view.
    """
    match message.kind:
        case Kind.PREPARE | Kind.COMMIT:
            return Opened(message, message_digest(message.kind, message.body))
        case Kind.PROPOSE:
            return _open_proposal(message)
        case Kind.VIEW_CHANGE:
            change = decode(message.body, ViewChange, size_max=CTL_FRAME_BYTES_MAX)
            return Opened(message, sha256(message.body), view_change=change)
        case Kind.NEW_VIEW:
            return _open_new_view(message)


def is_signed(
    opened: Opened, validators: ValidatorSet, *, chain_id: bytes, verifier: Verifier
) -> bool:
    """Did the validator it names sign it, as a member of this epoch?

    The VIEW_CHANGEs inside a NEW_VIEW are checked by the core, not here.
    """
    message = opened.message
    if message.epoch != validators.epoch or message.signer >= len(validators):
        return False
    signed = statement_of(message, opened.digest, chain_id)
    key = validators.validators[message.signer].consensus
    return verifier.verify(key, signed, message.signature)


def sign(unsigned: Opened, signer: Signer, chain_id: bytes) -> Opened:
    """Return the message with the signer's signature."""
    signature = signer.sign(statement_of(unsigned.message, unsigned.digest, chain_id))
    message = structs.replace(unsigned.message, signature=signature)
    return structs.replace(unsigned, message=message)


def _open_proposal(message: SignedMessage) -> Opened:
    proposal = decode(message.body, Proposal, size_max=CTL_FRAME_BYTES_MAX)
    header = proposal.block.header
    if header.height != message.height or header.view > message.view:
        raise WireError(
            f"block of height {header.height}, view {header.view} proposed at height "
            f"{message.height}, view {message.view}",
            penalty=100,
        )
    if not is_bound(proposal.block):
        raise WireError("proposal whose header does not commit to its body", penalty=100)
    return Opened(message, block_hash(header), proposal=proposal)


def _open_new_view(message: SignedMessage) -> Opened:
    new_view = decode(message.body, NewView, size_max=CTL_FRAME_BYTES_MAX)
    parts = []
    for part in new_view.view_changes:
        same = (part.height, part.view, part.epoch) == (message.height, message.view, message.epoch)
        if part.kind is not Kind.VIEW_CHANGE or not same:
            raise WireError("NEW_VIEW with a message of another kind, height or view", penalty=100)
        parts.append(open_message(part))
    signers = [part.message.signer for part in parts]
    if len(set(signers)) != len(signers):
        raise WireError("NEW_VIEW that counts one signer twice", penalty=100)
    return Opened(message, sha256(message.body), view_changes=tuple(parts))
