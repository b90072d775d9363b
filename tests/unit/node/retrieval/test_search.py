"""Search over a ledger in memory: what is indexed, believed, filtered, and in which order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from prsm.node.retrieval.catalogue import Filters, Reading
from prsm.node.retrieval.search import BadQuery, CardSearch, Found
from prsm.node.retrieval.vectors import VectorProcess
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.cards import Card
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.transactions.payloads import Halt, RegisterModel
from prsm.protocol.transactions.registry import SetCard, SetChannel, Yank
from prsm.protocol.transactions.results import Code
from prsm.storage.card import encode_card, sign_card
from prsm.storage.cid import hash_block
from prsm.storage.errors import NotFound
from prsm.storage.manifest import encode_manifest, sign_manifest
from prsm.testnet.chain import Chain, signer_of, small_genesis
from tests.tools.cards import card
from tests.tools.embedding import WordHashes
from tests.tools.stores import manifest

OWNER, STRANGER = 64, 65


@dataclass
class World:
    """A ledger, the blocks that peers have, and a search over both."""

    search: CardSearch
    embedder: WordHashes
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
async def opened(folder: Path) -> AsyncIterator[World]:
    chain = Chain(small_genesis())
    embedder = WordHashes()
    vectors = VectorProcess(folder / "cards.db", dimension=384)
    reading = Reading(
        view=chain.ledger.view,
        manifest=lambda cid: take(world.manifests, cid),  # type: ignore[arg-type, return-value]  # as it was put
        block=lambda cid: take(world.blocks, cid),  # type: ignore[arg-type, return-value]  # likewise
        chain_id=chain.genesis.chain_id,
        verifier=Ed25519Verifier(),
    )
    world = World(CardSearch(reading, embedder, vectors), embedder, chain)
    async with trio.open_nursery() as nursery:
        await nursery.start(vectors.run)
        yield world
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_search_ranks_filters_and_follows_the_ledger(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert (await world.find("anything")).rows == ()
        cats = world.publish(
            "cats", summary="Finds cats in photos.", task="image-classification", text="", tags=()
        )
        world.publish(
            "verse", summary="Writes short poems.", task="text-generation", size=10, text=""
        )
        world.publish(
            "prose", summary="Writes long novels.", licence="MIT", price_per_row=99, text=""
        )
        found = await world.find("a model that writes poems")
        assert [row.name for row in found.rows][:2] == ["verse", "prose"]
        assert [row.score for row in found.rows] == sorted(
            (row.score for row in found.rows), reverse=True
        )
        assert (found.indexed, found.registered, found.unread, found.backend) == (3, 3, 0, "exact")
        first = found.rows[0]
        assert (first.summary, first.task, first.size_bytes) == (
            "Writes short poems.",
            "text-generation",
            10,
        )
        assert first.has_card
        # filters
        assert await world.names("writes", task="image-classification") == ["cats"]
        assert await world.names("writes", licence="MIT") == ["prose"]
        assert await world.names("writes", price_max=50) == ["verse", "cats"]
        assert await world.names("writes", size_max=5) == ["prose", "cats"]
        assert await world.names("writes", subject="dataset") == []
        assert len((await world.find("writes", limit=1)).rows) == 1
        # nothing is embedded twice
        read = len([text for text in world.embedder.embedded if "Writes" in text])
        assert read == 2
        # a new card, a channel, a yank, a halt
        world.send(
            SetCard(cats, world.put_card(name="cats", summary="Finds dogs and verse.", text=""))
        )
        assert (await world.find("dogs")).rows[0].name == "cats"
        world.publish("verse", "2.0.0", summary="Sings.", text="")
        assert (await world.find("sings")).rows[0].semver == "2.0.0"
        world.send(SetChannel("verse", "stable", "1.0.0"))
        assert (await world.find("poems")).rows[0].semver == "1.0.0"
        world.send(Yank("prose", "1.0.0", lift=False, reason=""))
        assert "prose" not in await world.names("writes")
        for operator in (32, 33, 34):
            world.chain.send(operator, Halt(cid=cats, lift=False, reason=""))
        assert await world.names("cats") == ["verse"]


@pytest.mark.slow
async def test_what_is_not_its_publishers_word_is_counted_and_not_shown(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        bare = world.publish("bare-model", with_card=False)
        forged = world.publish("forged")
        unsigned = world.publish("unsigned", with_card=False)
        foreign = world.publish("foreign", with_card=False)
        lost = world.publish("lost")
        world.send(SetCard(forged, world.put_card(STRANGER, name="forged")))
        world.manifests[unsigned] = replace(world.manifests[unsigned], signature=None)
        world.send(SetCard(foreign, world.put_card(name="other")))
        del world.blocks[world.manifests[lost].card or b""]
        found = await world.find("bare model")
        assert [row.name for row in found.rows] == ["bare-model"]
        assert (found.indexed, found.registered, found.unread) == (1, 5, 4)
        row = found.rows[0]
        assert (row.cid, row.has_card, row.price_per_row, row.task) == (bare, False, None, "")
        assert row.licence == "MIT"
        assert await world.names("bare", price_max=10**9) == []
        # what was shown once is taken back when its new word does not hold
        world.send(SetCard(bare, hash_block(b"nowhere").raw))
        assert (await world.find("bare")).indexed == 0


@pytest.mark.parametrize(
    ("query", "limit"), [("", 10), ("  ", 10), ("x" * 1001, 10), ("x", 0), ("x", 501)]
)
async def test_bad_questions_are_refused_before_anything_is_asked(
    tmp_path: Path, query: str, limit: int
) -> None:
    async with opened(tmp_path) as world:
        with pytest.raises(BadQuery):
            await world.find(query, limit)
        assert not world.embedder.embedded
