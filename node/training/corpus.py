"""Text that every installation has: the Python documentation it carries, and the project's own.

Knows where such text lies: docstrings of the standard library, `pydoc_data.topics`, and the
Markdown files of a checkout. Must not know what is learned from it. Nothing is fetched.

The order is that of the file names, so one installation always gives one text. Every twentieth
document is held out, and is never trained on.
"""

import ast
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Final

import prsm

# Tests and bundled tools hold little prose; site-packages differ from machine to machine.
_LEFT_OUT: Final = frozenset(
    ("site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__")
)
_SHORTEST_CHARS: Final = 80
_HELD_OUT_EVERY: Final = 20
_SENTENCE_CHARS: Final = (40, 300)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to learn from, and documents to be asked about afterwards."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def collect() -> Corpus:
    """Read all text of this installation."""
    documents = [*_docstrings(), *_topics(), *_own_docs()]
    return split([text for text in documents if len(text) >= _SHORTEST_CHARS])


def sentences(count: int) -> list[str]:
    """First sentences of docstrings, each once: lines to compare two forms of an encoder on."""
    found: dict[str, None] = {}
    for text in _docstrings():
        line = " ".join(text.split("\n\n")[0].split())
        if _SENTENCE_CHARS[0] <= len(line) <= _SENTENCE_CHARS[1]:
            found[line] = None
        if len(found) == count:
            break
    return list(found)


def split(documents: list[str]) -> Corpus:
    """Hold every twentieth document out."""
    held_out = documents[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    training = [text for place, text in enumerate(documents, 1) if place % _HELD_OUT_EVERY]
    return Corpus(tuple(training), tuple(held_out))


def docstrings_of(source: str) -> Iterator[str]:
    """Docstrings of a Python file: module, classes, functions; nothing of a file that is none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def _docstrings() -> Iterator[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    for top in sorted(folder.iterdir()):
        if top.name in _LEFT_OUT:
            continue  # what is installed beside the library is never even listed
        for path in sorted(top.rglob("*.py")) if top.is_dir() else [top]:
            if path.suffix == ".py" and _LEFT_OUT.isdisjoint(path.relative_to(folder).parts):
                yield from docstrings_of(path.read_text(encoding="utf-8", errors="replace"))


def _topics() -> Iterator[str]:
    for name in sorted(topics.topics):
        yield str(topics.topics[name])


def _own_docs() -> Iterator[str]:
    """Markdown of the checkout this package runs from; a wheel has none."""
    root = Path(prsm.__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
            if path.is_file():
                # By heading, so that what is held out is not a whole document or nothing.
                yield from path.read_text(encoding="utf-8").split("\n## ")
