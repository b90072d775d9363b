"""Cards: read back as written, refused when misspelt, believed only from their publisher."""

import pytest
from msgspec.structs import replace

from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.messages.cards import Card, DataRef
from prsm.storage.card import card_cid, card_text, check_card, decode_card, encode_card
from prsm.storage.cid import hash_block
from prsm.storage.manifest import ForeignManifest
from tests.tools.cards import CHAIN, SIGNER, card, signed_card


def check(found: Card, *, publisher: bytes = SIGNER.public_key) -> None:
    check_card(
        found,
        name="org/minilm",
        semver="1.0.0",
        publisher=publisher,
        chain_id=CHAIN,
        verifier=Ed25519Verifier(),
    )


def test_card_is_read_back_and_believed() -> None:
    raw = encode_card(signed_card())
    assert decode_card(raw) == signed_card()
    assert card_cid(signed_card()) == hash_block(raw)
    check(decode_card(raw))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"summary": "e\u0301"}, "NFC"),
        ({"text": "a\x1b[31m"}, "control"),
        ({"text": "a\u202eb"}, "control"),
        ({"semver": "1.0.0-01"}, "no version"),
        ({"licence": "do what you want"}, "SPDX"),
        ({"licence": "MIT OR"}, "SPDX"),
        ({"tags": ("small", "english")}, "ascending"),
        ({"tags": ("small", "small")}, "twice"),
        ({"subject": "dataset"}, "dataset with inputs"),
        ({"text": "x" * 8192, "training": (DataRef(None, "\U0001f600" * 200),) * 16}, ""),
    ],
)
def test_misspelt_card_is_neither_written_nor_read(changes: dict[str, object], fault: str) -> None:
    changed = card(**changes)
    if not fault:
        assert decode_card(encode_card(changed)) == changed
        return
    with pytest.raises(LocalError, match=fault):
        encode_card(changed)
    with pytest.raises(WireError, match=fault):
        decode_card(encode(changed))


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0 OR MIT", "(MIT AND BSD-3-Clause)"])
def test_licence_is_an_spdx_expression(licence: str) -> None:
    encode_card(card(licence=licence))


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (card(), "signature"),
        (replace(signed_card(), signature=bytes(64)), "signature"),
        (replace(signed_card(), royalty_bps=0), "signature"),
        (signed_card(name="org/other"), "about org/other@1.0.0"),
        (signed_card(semver="2.0.0"), "about org/minilm@2.0.0"),
        (replace(signed_card(), chain_id=b"othernet"), "another network"),
    ],
)
def test_card_that_is_not_its_publishers_word_is_refused(found: Card, fault: str) -> None:
    with pytest.raises(ForeignManifest, match=fault):
        check(found)
    with pytest.raises(ForeignManifest, match="another publisher"):
        check(signed_card(), publisher=bytes(32))


def test_text_for_search_is_bounded_and_begins_with_what_it_is() -> None:
    text = card_text(card(text="word " * 1000))
    assert text.startswith("org minilm. Maps sentences to vectors. sentence similarity. english")
    assert text.count("word") == 160
    assert "  " not in card_text(card(text="", tags=()))
