"""Targets of documents: manifests, cards, versions, the genesis. As `targets` says."""

from prsm.protocol.genesis import from_json, to_json
from prsm.protocol.semver import Range, Reference, Version
from prsm.storage.card import card_text, decode_card, encode_card
from prsm.storage.manifest import decode_manifest, encode_manifest
from prsm.storage.vectors.messages import HEAD, pack, unpack, unpack_head


def manifest(data: bytes) -> None:
    """The manifest of a model."""
    assert encode_manifest(decode_manifest(data)) == data


def card(data: bytes) -> None:
    """The card of a model or dataset."""
    found = decode_card(data)
    assert encode_card(found) == data
    card_text(found)


def versions(data: bytes) -> None:
    """Versions, ranges and references, of a person or of the ledger."""
    text = data[1:].decode("utf-8", "replace")
    match data[0] % 3 if data else 2:
        case 0:
            found = Version.parse(text)
            assert str(found) == text
            assert Range.parse(f"={text}").holds(found)
        case 1:
            Range.parse(text).holds(Version(1, 2, 3))
        case _:
            assert str(Reference.parse(text)) == text


def vectors(data: bytes) -> None:
    """Frames between a daemon and its process of vectors."""
    size, kind = unpack_head(data[: HEAD.size].ljust(HEAD.size, b"\0"))
    pack(unpack(kind, data[HEAD.size : HEAD.size + size]))


def genesis(data: bytes) -> None:
    """A genesis document."""
    found = from_json(data)
    assert from_json(to_json(found)) == found
