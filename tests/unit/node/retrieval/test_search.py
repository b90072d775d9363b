"""Search over a ledger in memory: what is indexed, believed, filtered, and in which order."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from prsm.node.retrieval.search import BadQuery
from prsm.protocol.transactions.payloads import Halt
from prsm.protocol.transactions.registry import SetCard, SetChannel, Yank
from prsm.storage.cid import hash_block
from tests.tools.embedding import WordHashes
from tests.tools.search_world import STRANGER, opened


@pytest.mark.slow
async def test_search_ranks_filters_and_follows_the_ledger(tmp_path: Path) -> None:
    embedder = WordHashes()
    async with opened(tmp_path, embedder) as world:
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
        read = len([text for text in embedder.embedded if "Writes" in text])
        assert read == 2
        # an index that lost an entry behind its back is mended
        await world.vectors.delete([cats])
        assert (await world.find("cats")).rows[0].name == "cats"
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
    embedder = WordHashes()
    async with opened(tmp_path, embedder) as world:
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
    embedder = WordHashes()
    async with opened(tmp_path, embedder) as world:
        with pytest.raises(BadQuery):
            await world.find(query, limit)
        assert not embedder.embedded


@pytest.mark.slow
async def test_vectors_of_others_are_searched_as_questions_are(tmp_path: Path) -> None:
    """What a plan's search does: the same ranking for the same vector, and nothing is embedded."""
    embedder = WordHashes()
    async with opened(tmp_path, embedder) as world:
        world.publish("cats", summary="Finds cats in photos.", text="", tags=())
        world.publish("verse", summary="Writes short poems.", text="", tags=())
        questions = ["a model that writes poems", "cats"]
        vectors = await embedder.embed(questions)
        nearest = await world.search.nearest(vectors, limit=2)
        asked = [(await world.find(question, limit=2)).rows for question in questions]
        assert nearest == asked
        assert [rows[0].name for rows in nearest] == ["verse", "cats"]
        for bad, limit in ((vectors, 0), (vectors, 501), ([vectors[0][:-4]], 2), ([b""], 2)):
            with pytest.raises(BadQuery):
                await world.search.nearest(bad, limit=limit)
