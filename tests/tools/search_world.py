"""A ledger in memory, blocks that peers have, and a search over both."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from prsm.node.retrieval.catalogue import Filters, Reading
from prsm.node.retrieval.embedder import Embedder
from prsm.node.retrieval.search import CardSearch, Found
from prsm.node.retrieval.vectors import VectorProcess
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.cards import Card
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.transactions.payloads import RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.card import encode_card, sign_card
from prsm.storage.cid import hash_block
from prsm.storage.errors import NotFound
from prsm.storage.manifest import encode_manifest, sign_manifest
from prsm.testnet.chain import Chain, signer_of, small_genesis
from tests.tools.cards import card
from tests.tools.stores import manifest

OWNER, STRANGER = 64, 65


@dataclass
class World:
    """A ledger, the blocks that peers have, and a search over both."""

    search: CardSearch
    vectors: VectorProcess
    chain: Chain
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    manifests: dict[bytes, ModelManifest] = field(default_factory=dict)

    def put_card(self, sender: int = OWNER, **changes: object) -> bytes:
        signer = signer_of(sender)
        made = card(publisher=signer.public_key, chain_id=self.chain.genesis.chain_id, **changes)
        return self.put(sign_card(made, signer))

    def put(self, made: Card) -> bytes:
        raw = encode_card(made)
        cid = hash_block(raw).raw
        self.blocks[cid] = raw
        return cid

    def publish(
        self,
        name: str,
        semver: str = "1.0.0",
        *,
        size: int = 1,
        with_card: bool = True,
        **card: object,
    ) -> bytes:
        """Register a model with a card; its manifest's CID."""
        signer = signer_of(OWNER)
        told = self.put_card(name=name, semver=semver, **card) if with_card else None  # type: ignore[arg-type]  # never the sender
        made = sign_manifest(
            manifest(
                name=name,
                semver=semver,
                publisher=signer.public_key,
                chain_id=self.chain.genesis.chain_id,
                card=told,
            ),
            signer,
        )
        cid = hash_block(encode_manifest(made)).raw
        self.manifests[cid] = made
        self.send(RegisterModel(cid, name, semver, bytes(32), size, ()))
        return cid

    def send(self, payload: Record, sender: int = OWNER) -> None:
        assert self.chain.send(sender, payload).code is Code.DONE

    async def find(self, query: str, limit: int = 10, **filters: str | int) -> Found:
        return await self.search.search(query, filters=Filters(**filters), limit=limit)  # type: ignore[arg-type]  # by name

    async def names(self, query: str, **filters: str | int) -> list[str]:
        return [row.name for row in (await self.find(query, **filters)).rows]  # type: ignore[arg-type]  # by name


async def take(source: Mapping[bytes, object], cid: bytes) -> object:
    await trio.lowlevel.checkpoint()
    if cid not in source:
        raise NotFound("nobody has it")
    return source[cid]


@asynccontextmanager
async def opened(folder: Path, embedder: Embedder) -> AsyncIterator[World]:
    chain = Chain(small_genesis())
    vectors = VectorProcess(folder / "cards.db", dimension=384)
    reading = Reading(
        view=chain.ledger.view,
        manifest=lambda cid: take(world.manifests, cid),  # type: ignore[arg-type, return-value]  # as it was put
        block=lambda cid: take(world.blocks, cid),  # type: ignore[arg-type, return-value]  # likewise
        chain_id=chain.genesis.chain_id,
        verifier=Ed25519Verifier(),
    )
    world = World(CardSearch(reading, embedder, vectors), vectors, chain)
    async with trio.open_nursery() as nursery:
        await nursery.start(vectors.run)
        yield world
        nursery.cancel_scope.cancel()
