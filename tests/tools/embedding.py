"""A stand-in for MiniLM: words are hashed to directions, so shared words mean near texts."""

import hashlib
import re
import struct
from collections.abc import Sequence

import trio

from prsm.node.retrieval.embedder import DIMENSION


class WordHashes:
    """Deterministic, without a model; counts what it was asked."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        self.embedded += texts
        return [_vector(text) for text in texts]


def _vector(text: str) -> bytes:
    numbers = [0.0] * DIMENSION
    for word in ["", *re.findall(r"[a-z0-9]+", text.lower())]:
        digest = hashlib.sha256(word.encode()).digest()
        numbers[int.from_bytes(digest[:4], "big") % DIMENSION] += 1.0
    return struct.pack(f"<{DIMENSION}f", *numbers)
