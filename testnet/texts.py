"""Real text for the demo: the sentences of the project's own documents, or of a given file.

Knows: what a sentence looks like in Markdown and in docstrings. Must not know: what is done
with it.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import prsm
from prsm.protocol.errors import LocalError

SENTENCES_MIN: Final = 200
WORDS_MIN: Final = 5
CHARACTERS_MAX: Final = 400
_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")
_MARKUP: Final = re.compile(r"[`*_#>]+|\[([^\]]*)\]\([^)]*\)")


class NoText(LocalError):
    """A text file that cannot be read, or holds no sentence."""

    reason = "no_text"


def project_sentences(count: int) -> list[str]:
    """Return the first `count` different sentences of the project's documents.

    A checkout has README.md and docs/; an installed wheel has the docstrings of its modules,
    which are documents too.
    """
    package = Path(next(iter(prsm.__path__))).resolve()
    root = package.parent.parent
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    texts = (page.read_text(encoding="utf-8") for page in pages if page.is_file())
    found = _distinct(sentence for text in texts for sentence in _of_markdown(text))
    if len(found) < count:
        modules = sorted(path for path in package.rglob("*.py") if path.is_file())
        found = _distinct([*found, *(s for path in modules for s in _of_module(path))])
    return found[:count]


def file_sentences(path: Path, count: int) -> list[str]:
    """Return the first `count` different sentences of a UTF-8 text file.

    Raises:
        NoText: no such file, not UTF-8, or no sentence in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoText(
            f"{path} cannot be read as UTF-8 text: {error}", hint="give --text a text file"
        ) from error
    found = _distinct(_of_markdown(text))
    if not found:
        raise NoText(
            f"{path} has no sentence of {WORDS_MIN} words or more",
            hint="give --text a file with prose in it",
        )
    return found[:count]


def _of_markdown(text: str) -> Iterator[str]:
    prose: list[str] = []
    fenced = False
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("```"):
            fenced = not fenced
        elif fenced or bare.startswith(("|", "#")):
            prose.append("\n")
        else:
            prose.append(re.sub(r"^(?:[-*]|\d+\.)\s+", "\n", bare) or "\n")
    for block in " ".join(prose).split("\n"):
        plain = _MARKUP.sub(lambda match: match[1] or "", block)
        yield from _split(plain)


def _of_module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                yield from _split(paragraph.replace("`", ""))


def _split(text: str) -> Iterator[str]:
    for sentence in _END.split(" ".join(text.split())):
        if len(sentence.split()) >= WORDS_MIN and len(sentence) <= CHARACTERS_MAX:
            yield sentence


def _distinct(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentences))
