"""A card that tests change one field of."""

from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.cards import Card, Metric
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.tensors import Dtype
from prsm.storage.card import sign_card

SIGNER = Ed25519Signer(b"p" * 32)
CHAIN = b"testnet1"


def card(**changes: object) -> Card:
    fields: dict[str, object] = {
        "version": 1,
        "subject": "model",
        "name": "org/minilm",
        "semver": "1.0.0",
        "summary": "Maps sentences to vectors.",
        "text": "Six layers.\nTrained on a billion pairs.",
        "task": "sentence-similarity",
        "tags": ("english", "small"),
        "inputs": (TensorSpec("input_ids", Dtype.I64, ("batch", "tokens")),),
        "outputs": (TensorSpec("embedding", Dtype.F32, ("batch", 384)),),
        "licence": "Apache-2.0",
        "parents": (),
        "royalty_bps": 250,
        "price_per_row": 10,
        "size_bytes": 90_000_000,
        "training": (),
        "metrics": (Metric("spearman", 820_000, None),),
        "created_ms": 0,
        "publisher": SIGNER.public_key,
        "chain_id": CHAIN,
        "signature": None,
    }
    return Card(**{**fields, **changes})  # type: ignore[arg-type]  # built by name


def signed_card(**changes: object) -> Card:
    return sign_card(card(**changes), SIGNER)
