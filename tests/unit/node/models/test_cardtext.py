"""A card from a small file: what is typed, what is known, what is refused."""

import json
import os
from pathlib import Path

import pytest

from prsm.node.chain.wallet import WalletLocked
from prsm.node.models.cardtext import BadCardText, read_card_text
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import LocalError
from prsm.storage.card import check_card, decode_card
from prsm.storage.cid import decode_cid
from prsm.storage.errors import NotFound
from prsm.storage.manifest import check_publisher
from tests.tools.model_rooms import SIGNER, open_room, wanted

WORDS = {
    "summary": "Maps sentences to vectors.",
    "task": "sentence-similarity",
    "tags": ["small", "english", "small"],
    "price_per_row": "10",
    "metrics": {"spearman": 0.82},
    "training": ["a billion pairs"],
}


def written(folder: Path, document: object) -> Path:
    (folder / "card.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "card.json"


async def test_a_model_is_added_with_its_signed_card(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    text = read_card_text(written(tmp_path, WORDS))
    async with open_room(tmp_path) as room:
        room.pool.files = {"stage-1.onnx": b"weights"}
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", card=text, register=False))
        manifest = known.manifest
        assert manifest.card is not None
        digest = decode_cid(manifest.card).digest
        raw = await room.tools.store.blocks.get(digest)
        await room.models.remove("encoder")
        with pytest.raises(NotFound):
            await room.tools.store.blocks.get(digest)
    card = decode_card(raw)
    assert (card.tags, card.price_per_row, card.size_bytes) == (("english", "small"), 10, 7)
    assert [(one.name, one.millionths) for one in card.metrics] == [("spearman", 820_000)]
    checker, chain_id = Ed25519Verifier(), bytes(8)
    check_card(
        card,
        name="encoder",
        semver="1.0.0",
        publisher=SIGNER.public_key,
        chain_id=chain_id,
        verifier=checker,
    )
    check_publisher(manifest, publisher=SIGNER.public_key, chain_id=chain_id, verifier=checker)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"summary": "no task"},
        WORDS | {"task": "Not A Word"},
        WORDS | {"metrics": {"spearman": 1e300}},
        WORDS | {"colour": "red"},
        WORDS | {"price_per_row": "1.5"},
        WORDS | {"text": "x" * 100_000},
        WORDS | {"summary": "\u0958" * 280},  # twice as long in NFC
        WORDS | {"text": "\u0958" * 8192},
        WORDS | {"summary": "a bell\x07"},
        WORDS | {"text": "turned\u202e"},
        WORDS | {"price_per_row": str(2**63)},
    ],
)
def test_what_is_no_card_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(BadCardText):
        read_card_text(written(tmp_path, document))
    with pytest.raises(NotFound):
        read_card_text(tmp_path / "absent")


def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(LocalError, match="no regular file"):
            read_card_text(tmp_path / name)


async def test_a_locked_wallet_signs_no_card(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    text = read_card_text(written(tmp_path, WORDS))
    async with open_room(tmp_path) as room:
        room.pool.files = {"stage-1.onnx": b"weights"}
        room.wallet.locked = True
        asked = room.pool.asked
        with pytest.raises(WalletLocked):
            await room.models.add(wanted(tmp_path / "m.onnx", card=text, register=False))
        assert room.pool.asked == asked, "refused before the worker"
