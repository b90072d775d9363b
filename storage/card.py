"""What makes a card one that this node believes, and the text a search reads of it.

Knows: spelling, order, signature. Must not know: where cards are, or how a text is compared.
"""

import re
import unicodedata
from typing import Final

import msgspec

from prsm.protocol.codec import decode, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.limits import CARD_BYTES_MAX
from prsm.protocol.messages.cards import Card
from prsm.protocol.semver import is_version
from prsm.protocol.signing import CARD_TAG
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.manifest import ForeignManifest

# The grammar of an SPDX expression; whether a name is on the list is its publisher's business.
_LICENCE: Final = re.compile(r"\(*[A-Za-z0-9.:+-]+\)*(?: (?:AND|OR|WITH) \(*[A-Za-z0-9.:+-]+\)*)*")
_TEXT_WORDS: Final = 160  # of the long text; the embedding model reads 256 tokens in all


def encode_card(card: Card) -> bytes:
    """Write a card that every node accepts.

    Raises:
        LocalError: a text, a version, a licence or the order of tags is wrong, or it is too large.
    """
    if fault := card_fault(card):
        raise LocalError(f"card of {card.name}: {fault}")
    raw = encode(card)
    if len(raw) > CARD_BYTES_MAX:
        raise LocalError(f"a card of {len(raw)} bytes, at most {CARD_BYTES_MAX}")
    return raw


def decode_card(raw: bytes) -> Card:
    """Read a card from a peer or from disk; its signature is not checked here.

    Raises:
        WireError: not canonical, out of bounds, or what `encode_card` refuses.
    """
    card = decode(raw, Card, size_max=CARD_BYTES_MAX)
    if fault := card_fault(card):
        raise WireError(f"card: {fault}")
    return card


def card_cid(card: Card) -> Cid:
    """CID of a card's block."""
    return hash_block(encode_card(card), Codec.RAW)


def card_statement(card: Card) -> bytes:
    """Bytes the publisher signs: the tag and every field before the signature."""
    return CARD_TAG + encode(msgspec.structs.astuple(card)[:-1])


def sign_card(card: Card, signer: Signer) -> Card:
    """Return the card with its publisher's signature."""
    assert card.publisher == signer.public_key
    return msgspec.structs.replace(card, signature=signer.sign(card_statement(card)))


def check_card(
    card: Card, *, name: str, semver: str, publisher: bytes, chain_id: bytes, verifier: Verifier
) -> None:
    """Check that a card is its publisher's own word about this version.

    Args:
        card: decoded.
        name: under which it was found.
        semver: likewise.
        publisher: whom the ledger names.
        chain_id: of this network.
        verifier: libsodium's rule.

    Raises:
        ForeignManifest: about another version, unsigned, of another network or publisher, forged.
    """
    if (card.name, card.semver) != (name, semver):
        fault = f"it is about {card.name}@{card.semver}"
    elif (card.publisher, card.chain_id) != (publisher, chain_id):
        fault = "it is by another publisher, or for another network"
    elif card.signature is None or not verifier.verify(
        publisher, card_statement(card), card.signature
    ):
        fault = "its signature does not hold"
    else:
        return
    raise ForeignManifest(
        f"card of {name}@{semver} is refused: {fault}", hint="ask its publisher to set another"
    )


def card_text(card: Card) -> str:
    """What a search embeds: what it is for, in the publisher's words, the shortest first."""
    words = re.split(r"[/._-]+", card.name)
    told = (" ".join(words), card.summary, card.task.replace("-", " "), ", ".join(card.tags))
    parts = (*told, " ".join(card.text.split()[:_TEXT_WORDS]))
    return ". ".join(part.rstrip(".") for part in parts if part)


def card_fault(card: Card) -> str:
    """Say what is wrong with a card; empty if nothing is."""
    for what, text in (("summary", card.summary), ("text", card.text)):
        if not is_clean(text):
            return f"its {what} is not NFC, or holds control characters"
    if not is_version(card.semver):
        return f"{card.semver!r} is no version"
    if _LICENCE.fullmatch(card.licence) is None:
        return f"licence {card.licence!r} is no SPDX expression"
    if list(card.tags) != sorted(set(card.tags)):
        return "its tags are not ascending, or one stands twice"
    if card.subject == "dataset" and (card.inputs or card.outputs):
        return "a dataset with inputs or outputs"
    return ""


def is_clean(text: str) -> bool:
    """Whether a text of a card is NFC and holds no control characters but lines and tabs."""
    plain = text.replace("\n", "").replace("\t", "")
    return unicodedata.normalize("NFC", text) == text and (not plain or plain.isprintable())
