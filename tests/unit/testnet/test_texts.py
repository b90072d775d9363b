"""Sentences out of documents: what counts as one, and files that have none."""

from pathlib import Path

import pytest

from prsm.testnet.texts import (
    CHARACTERS_MAX,
    SENTENCES_MIN,
    WORDS_MIN,
    NoText,
    file_sentences,
    project_sentences,
)

PAGE = """# A title of at least five words

First sentence has six words here. Second one
goes over two lines, too! Short one. Third sentence stands in `code` and *stars* here.

- a list item with enough words in it.
1. Numbered items are sentences of their own.

| a | table | with | many | words |

```
code in a fence is no sentence at all.
```
See [the other page](other.md) for what is left out.
First sentence has six words here.
"""


def test_prose_is_cut_into_different_sentences(tmp_path: Path) -> None:
    """Titles, tables, code and repeats are left out; links and marks become plain words."""
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    assert file_sentences(path, 100) == [
        "First sentence has six words here.",
        "Second one goes over two lines, too!",
        "Third sentence stands in code and stars here.",
        "a list item with enough words in it.",
        "Numbered items are sentences of their own.",
        "See the other page for what is left out.",
    ]
    assert len(file_sentences(path, 2)) == 2


@pytest.mark.parametrize("content", [b"", b"two words", b"# only a title of many words\n", b"\xff"])
def test_file_without_sentences_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, too short, a title, no UTF-8: typed, naming the file and the option."""
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(NoText, match=str(path)) as refused:
        file_sentences(path, 10)
    assert "--text" in refused.value.hint


def test_absent_file_is_refused(tmp_path: Path) -> None:
    """As is a folder."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(NoText):
            file_sentences(path, 10)


def test_project_has_sentences_enough() -> None:
    """As many as the demo needs, all different, none too short or too long; the same each time."""
    found = project_sentences(SENTENCES_MIN)
    assert len(found) == len(set(found)) == SENTENCES_MIN
    assert all(len(sentence.split()) >= WORDS_MIN for sentence in found)
    assert all(len(sentence) <= CHARACTERS_MAX for sentence in found)
    assert project_sentences(5) == found[:5]
