"""`python3 scripts/reference.py [--check]`: what is written from the program itself.

In docs/ARCHITECTURE.md, between markers: the picture and the table of rooms (`scripts/picture.py`).
In docs/reference/modules.md: every module, by the first sentence of its docstring. That part
imports nothing of prsm, so it runs before installation. Then, with the Python of `.venv`, the rest
of docs/reference and the generated files of scripts/deploy (`scripts/pages.py`).
"""

import ast
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Final

import picture
from generated import keep
from tidy import FLOORS, ROOT, is_module, tracked_files

_PAGE: Final = ROOT / "docs" / "ARCHITECTURE.md"
_MODULES: Final = ROOT / "docs" / "reference" / "modules.md"
_HEAD: Final = "<!-- written by scripts/reference.py -->\n# Modules\n\n"


def first_sentence(path: str) -> str:
    """The first sentence of a file's docstring, on one line; empty without one."""
    doc = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    sentence = paragraph.split(". ")[0].rstrip(".")
    return sentence + "." if sentence else ""


def module_list() -> str:
    """All modules of the package by folder, in the order of the floors, as Markdown."""
    modules = [path for path in tracked_files() if is_module(path)]
    modules.sort(
        key=lambda path: (FLOORS.index(path[: path.index("/") + 1]), PurePosixPath(path).parts[:-1])
    )
    lines = []
    for folder, paths in groupby(modules, lambda path: str(PurePosixPath(path).parent)):
        lines += [f"\n## {folder}/", first_sentence(f"{folder}/__init__.py"), ""]
        lines += [f"- `{path}`: {first_sentence(path)}" for path in paths]
    return "\n".join(lines).strip("\n") + "\n"


def write_pages(*, is_check: bool) -> None:
    """Write the pages that changed, or refuse where `is_check` and there is one."""
    from pages import pages  # noqa: PLC0415 - it imports prsm

    stale = {path: text for path, text in pages().items() if _old(path) != text}
    if stale and is_check:
        names = ", ".join(map(str, stale))
        sys.exit(f"error: {names}: not current: try python3 scripts/reference.py")
    for path, text in stale.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
        print(f"{path} written")


def _old(path: Path) -> str:
    return (ROOT / path).read_text() if (ROOT / path).exists() else ""


def main() -> None:
    """Write the list and the pages, or with `--check` only say whether they are current."""
    if "--pages" in sys.argv[1:]:
        write_pages(is_check="--check" in sys.argv[1:])
        return
    write_list()
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists():
        command = [str(python), __file__, "--pages", *sys.argv[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        sys.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)
    print("docs/reference is left as it is: the program is not installed")


def sections() -> dict[str, str]:
    """What stands between the markers of docs/ARCHITECTURE.md, by the name they bear."""
    modules = [path for path in tracked_files() if is_module(path)]
    found = picture.rooms(ROOT, modules, (ROOT / "pyproject.toml").read_text())
    return {
        "picture": picture.picture(found),
        "rooms": picture.table(found),
    }


def between(text: str, name: str) -> tuple[str, str, str]:
    """A page cut at the markers of a section: what is before, inside, behind."""
    begin = f"<!-- {name}: written by scripts/reference.py -->\n"
    before, opened, rest = text.partition(begin)
    inside, closed, after = rest.partition(f"<!-- end of {name} -->\n")
    if not (opened and closed):
        sys.exit(f"error: {_PAGE.name}: no markers of {name!r}")
    return before + begin, inside, f"<!-- end of {name} -->\n{after}"


def write_list() -> None:
    """Write sections and modules, or with `--check` only say whether they are current."""
    command = "python3 scripts/reference.py"
    page = _PAGE.read_text()
    for name, section in sections().items():
        before, _, after = between(page, name)
        page = f"{before}\n{section}\n{after}"
    for path, text in ((_PAGE, page), (_MODULES, _HEAD + module_list())):
        keep(path, text, command=command, only_check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
