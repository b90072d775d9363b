"""The examples of docs/guide: fenced blocks and cells, and how a person's shell runs them."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import prsm

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs" / "guide"
PAGES: Final = sorted(GUIDE.glob("*.md"))
NOTEBOOKS: Final = sorted(GUIDE.glob("*.ipynb"))
_FENCE: Final = re.compile(
    r"(?:^<!-- (?P<tag>[^\n]*?) -->\n)?^```(?P<kind>sh|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PRSM: Final = re.compile(r"^(?:.*[|&(;] *)?(?P<words>prsm(?:-testnet)? .*)$")


@dataclass(frozen=True)
class Block:
    """One example.

    Attributes:
        page: where it stands; line: of its fence.
        kind: sh or python.
        on: name of the machine that it is meant for; "" where there is one.
        is_run: False where the page says why not.
    """

    page: Path
    line: int
    kind: str
    text: str
    on: str = ""
    is_run: bool = True

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The examples of a page, or the cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return [
            Block(page, number, "python", "".join(cell["source"]))
            for number, cell in enumerate(cells)
            if cell["cell_type"] == "code"
        ]
    found = []
    for match in _FENCE.finditer(text):
        tag = match["tag"] or ""
        line = text.count("\n", 0, match.start("text"))
        on = tag.removeprefix("on ") if tag.startswith("on ") else ""
        found.append(
            Block(page, line, match["kind"], match["text"], on, not tag.startswith("not run:"))
        )
    return found


def commands_of(block: Block) -> Iterator[list[str]]:
    """Words of each `prsm` line of a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if match := _PRSM.match(line.partition(" #")[0].strip()):
            yield shlex.split(match["words"])


@dataclass
class Shell:
    """A person at a machine: a folder to work in and a node's home."""

    folder: Path
    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put `prsm` on the path."""
        tools = self.folder / ".tools"
        tools.mkdir(parents=True, exist_ok=True)
        for name, module in (("prsm", "node.cli.main"), ("prsm-testnet", "testnet.cli")):
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m prsm.{module} "$@"\n')
            script.chmod(0o755)
        self.environ = {
            **os.environ,
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(prsm.__file__).parents[1]),
            "PRSM_HOME": str(self.home),
            "PRSM_RPC__LISTEN": "127.0.0.1:0",
            "NO_COLOR": "1",
            **self.environ,
        }

    def run(self, text: str, *, python: bool = False) -> str:
        """Run an example; its standard output.

        Raises:
            AssertionError: it failed; with all it said.
        """
        command = (
            [sys.executable, "-c", text] if python else ["bash", "-euo", "pipefail", "-c", text]
        )
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """End the node, if it still runs."""
        subprocess.run(
            ["bash", "-c", "prsm stop"],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            check=False,
            timeout=60,
        )


def replaced(text: str, values: Mapping[str, str]) -> str:
    """An example with its placeholders filled."""
    for name, value in values.items():
        text = text.replace(name, value)
    return text
