"""Examples of the documents: commands and options that exist, Python that compiles."""

import ast
import json
import re
from pathlib import Path

import click
import pytest

from prsm.node.cli.main import prsm
from tests.tools.guide import NOTEBOOKS, PAGES, ROOT, Block, blocks_of, commands_of

DOCUMENTS = [ROOT / "README.md", *PAGES, *NOTEBOOKS]
BLOCKS = [block for page in DOCUMENTS for block in blocks_of(page)]


def known(words: list[str], *, whole: bool = True) -> None:
    """Fail unless these words name a command, and its options are its own.

    Args:
        words: behind `prsm`.
        whole: they are a command; else they may name a group as well.
    """
    context = click.Context(prsm, info_name="prsm")
    command: click.Command = prsm
    globals_ = {name for option in prsm.params for name in option.opts}
    rest = list(words)
    while isinstance(command, click.Group):
        while rest and rest[0].startswith("-"):
            assert rest[0] in globals_, f"no global option {rest[0]}"
            rest = rest[1 if rest[0] in {"--json", "--yes", "--quiet"} else 2 :]
        if not rest and not whole:
            return
        assert rest, f"{words}: a group without a command"
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command {rest[0]!r} in {words}"
        command, rest = found, rest[1:]
    if command.context_settings.get("ignore_unknown_options"):
        return  # they are those of the program it starts
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            assert word in options | globals_ | {"--help"}, f"{words}: no option {word}"


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.kind == "sh"], ids=lambda block: block.place
)
def test_commands_of_the_documents_exist(block: Block) -> None:
    for words in commands_of(block):
        if words[:2] == ["prsm", "testnet"] or words[0] == "prsm-testnet":
            continue  # a program of its own; the long test runs it
        known(words[1:])


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *PAGES, *sorted((ROOT / "docs" / "runbooks").glob("*.md"))],
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_commands_named_in_sentences_exist(page: Path) -> None:
    for text in re.findall(r"`(prsm [^`\n]+)`", page.read_text(encoding="utf-8")):
        words = [word.strip("[],…") for word in re.sub(r'"[^"]*"', "TEXT", text).split()]
        rest = [word for word in words[1:] if word and "|" not in word]
        if rest and rest[0] != "testnet":
            known(rest, whole=False)


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.kind == "python"], ids=lambda block: block.place
)
def test_python_of_the_documents_compiles(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(notebook: Path) -> None:
    document = json.loads(notebook.read_bytes())
    assert document["nbformat"] == 4
    for cell in document["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
