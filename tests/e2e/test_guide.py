"""Every example of docs/guide, as a person types it: pages in order, a notebook cell by cell.

A page that needs a node gets the development network of `prsm init --dev`; the two laptops are two
homes of this machine.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.guide import GUIDE, NOTEBOOKS, ROOT, Shell, blocks_of, replaced

pytestmark = [pytest.mark.long, pytest.mark.e2e]
_ONE_NODE = ["howto.md", "python.md"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The three commands of the guide's first page, done."""
    folder = tmp_path_factory.mktemp("guide")
    made = Shell(folder, folder / "home")
    try:
        said = [made.run(block.text) for block in blocks_of(GUIDE / "README.md")]
        assert json.loads((folder / "receipt.json").read_text())["job"]
        assert "sentence_embedding" in said[-1]
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("page", _ONE_NODE)
def test_the_examples_of_a_page_work_in_its_order(shell: Shell, page: str) -> None:
    blocks = [block for block in blocks_of(GUIDE / page) if block.is_run]
    assert blocks
    failed = []
    for block in blocks:
        try:
            if block.kind == "sh":
                shell.run(block.text)
        except AssertionError as error:
            failed.append(f"{block.place}: {error}")
    assert not failed, "\n\n".join(failed)
    program = "\n\n".join(block.text for block in blocks if block.kind == "python")
    if program:
        shell.run(program, python=True)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_its_first_cell_to_its_last(shell: Shell, notebook: Path) -> None:
    """What a cell ends with is shown as a notebook shows it."""
    driver = (
        "import ast, json, sys\n"
        "cells, space = json.load(open(sys.argv[1])), {'__name__': '__main__'}\n"
        "for text in cells:\n"
        "    tree = ast.parse(text)\n"
        "    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None\n"
        "    exec(compile(tree, 'cell', 'exec'), space)\n"
        "    if last is not None:\n"
        "        value = eval(compile(ast.Expression(last.value), 'cell', 'eval'), space)\n"
        "        show = getattr(value, '_repr_html_', None)\n"
        "        print(show() if show else repr(value))\n"
    )
    cells = shell.folder / "cells.json"
    cells.write_text(json.dumps([block.text for block in blocks_of(notebook)]))
    shown = shell.run(driver.replace("sys.argv[1]", repr(str(cells))), python=True)
    assert "<svg" in shown
    assert "freezer" in shown
    assert "Checked(job=" in shown


def test_two_laptops_make_a_network(tmp_path: Path) -> None:
    shells = {name: Shell(tmp_path / name, tmp_path / name / "home") for name in ("a", "b")}
    values = {"192.168.1.10": "127.0.0.1", "192.168.1.11": "127.0.0.1", "/tcp/4410": "/tcp/0"}
    try:
        for block in blocks_of(GUIDE / "two-laptops.md"):
            if block.on == "b" and "ADDRESS" not in values:
                status = json.loads(shells["a"].run("prsm status --json"))
                values["ADDRESS"] = status["addresses"][0]
                shutil.copy(tmp_path / "a" / "home" / "genesis.json", tmp_path / "b")
            shells[block.on].run(replaced(block.text, values))
    finally:
        for shell in shells.values():
            shell.stop()


def test_the_network_by_hand_of_the_readme(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "none", {"HOME": str(tmp_path)})
    [block] = [one for one in blocks_of(ROOT / "README.md") if "prsm testnet up" in one.text]
    up, _, rest = block.text.partition("prsm --home")
    try:
        shell.run(up)
        status = json.loads(shell.run("prsm --home ~/.prsm-testnet/node1 status --json"))
        (tmp_path / "password").write_text("three short words\n")
        (tmp_path / "password").chmod(0o600)
        typed = "--password-file password"  # a person is asked
        values = {
            "ADDRESS": status["addresses"][0],
            "--rpc 127.0.0.1:0": f"--rpc 127.0.0.1:0 {typed}",
            "--unlock": f"--unlock {typed}",
        }
        shell.run(replaced("prsm --home" + rest, values))
    finally:
        shell.run("prsm testnet down; prsm stop --home ~/lab || true")
