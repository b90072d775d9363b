"""`python3 scripts/reference.py [--check]`: the module list of docs/ARCHITECTURE.md.

Written from the first sentence of each module's docstring, between two markers; the rest of the
page is written by hand. Knows docstrings; imports nothing of prsm, so it runs before installation.
"""

import ast
import sys
from itertools import groupby
from pathlib import PurePosixPath
from typing import Final

from tidy import FLOORS, ROOT, is_module, tracked_files

_PAGE: Final = ROOT / "docs" / "ARCHITECTURE.md"
_BEGIN: Final = "<!-- modules: written by scripts/reference.py -->\n"
_END: Final = "<!-- end of modules -->\n"


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
        lines += [f"\n### {folder}/", first_sentence(f"{folder}/__init__.py"), ""]
        lines += [f"- `{path}`: {first_sentence(path)}" for path in paths]
    return "\n".join(lines).strip("\n") + "\n"


def main() -> None:
    """Write the list, or with `--check` only say whether it is current."""
    text = _PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    current = f"{before}{_BEGIN}\n{module_list()}\n{_END}{after}"
    if current == text:
        print(f"{_PAGE.name} is current")
    elif "--check" in sys.argv[1:]:
        sys.exit(f"error: {_PAGE.name} is not current: try python3 scripts/reference.py")
    else:
        _PAGE.write_text(current)
        print(f"{_PAGE.name} written")


if __name__ == "__main__":
    main()
