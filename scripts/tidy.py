"""`python3 scripts/tidy.py`: what no linter holds (docs/STYLE.md), as `path:line: found, limit`.

Walks git's tracked files once, Python by `ast`. Uses the standard library alone and nothing of
prsm. Which rules there are is said by the tables of checks below; a check returns complaints,
it never prints and never changes a file.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FLOORS: Final = ("protocol/", "consensus/", "storage/", "node/", "testnet/")
PICTURES: Final = (".png", ".webp")
FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 60
_BANNED_CLASS: Final = re.compile(
    r"Manager|Helper|Util(?![a-z])|Utils|Utilit|Enhanced|Real(?![a-z])|Production"
)
# Put together here, so that this file does not find itself.
_UNFINISHED: Final = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b")
_MARK: Final = re.compile(r"#\s*(noqa|type:\s*ignore|nosec|pragma:\s*no (?:cover|branch))\b")
_REASONED: Final = re.compile(
    r"#\s*(?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\]|nosec B\d+|"
    r"pragma: no (?:cover|branch))\s+[-#]\s*\w"
)
_STARTED: Final = re.compile(r"-m (prsm(?:\.\w+)*)")
_LINK: Final = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")

Complaint = tuple[int, str]


def check_length(_path: str, text: str, tree: ast.Module) -> Iterator[Complaint]:
    """Files over 400 lines, functions over 60."""
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield 1, f"{lines} lines, at most {FILE_LINES_MAX}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {size} lines, at most {FUNCTION_LINES_MAX}"


def check_docstring(path: str, _text: str, tree: ast.Module) -> Iterator[Complaint]:
    """Modules outside tests/ say what they know and must not know."""
    if not path.startswith("tests/") and not ast.get_docstring(tree):
        yield 1, "no module docstring"


def check_init(path: str, _text: str, tree: ast.Module) -> Iterator[Complaint]:
    """`__init__` re-exports or is empty, else the client would load the daemon."""
    if not path.endswith("__init__.py"):
        return
    for node in tree.body:
        exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (exports or says or isinstance(node, ast.Import | ast.ImportFrom)):
            yield node.lineno, "code in __init__, only a docstring and re-exports"


def check_words(_path: str, text: str, tree: ast.Module) -> Iterator[Complaint]:
    """Class names are nouns of the domain; unfinished work is an issue, not a comment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (found := _BANNED_CLASS.search(node.name)):
            yield (
                node.lineno,
                f"class {node.name}: {found[0]!r} says nothing, use the domain's noun",
            )
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _UNFINISHED.search(line):
            yield number, f"{found[0]} in the source, file an issue"


def check_reasons(_path: str, text: str, _tree: ast.Module) -> Iterator[Complaint]:
    """A rule is switched off by code and reason: `noqa: X123 - why`."""
    if not _MARK.search(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_mark = token.type == tokenize.COMMENT and _MARK.search(token.string)
        if is_mark and not _REASONED.search(token.string):
            yield token.start[0], f"{token.string!r} without code and reason ('# noqa: X1 - why')"


def check_started(_path: str, text: str, tree: ast.Module) -> Iterator[Complaint]:
    """`"-m", "prsm.x"` in a command names a module that exists."""
    if '"-m"' not in text:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.List | ast.Tuple):
            continue
        words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
        for before, word in pairwise(words):
            if before == "-m" and isinstance(word, str) and not _is_program(word):
                yield node.lineno, f"-m {word} names nothing"


def check_text_started(_path: str, text: str) -> Iterator[Complaint]:
    """`-m prsm.x` in documents and scripts names a module that exists."""
    for number, line in enumerate(text.splitlines(), start=1):
        for found in _STARTED.finditer(line):
            if not _is_program(found[1]):
                yield number, f"-m {found[1]} names nothing"


def check_links(path: str, text: str) -> Iterator[Complaint]:
    """Relative links of Markdown lead to files."""
    if not path.endswith(".md"):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        for found in _LINK.finditer(line):
            target = found[1]
            if "://" not in target and not (ROOT / path).parent.joinpath(target).exists():
                yield number, f"link to {target}, which is not there"


def check_packaging(_files: list[str]) -> Iterator[str]:
    """Each floor is reached as prsm.<floor> through a link in src/prsm."""
    for floor in FLOORS:
        link = ROOT / "src" / "prsm" / floor.rstrip("/")
        wanted = f"../../{link.name}"
        if not link.is_symlink() or str(link.readlink()) != wanted:
            yield f"src/prsm/{link.name}:1: no link to {wanted}"


def check_listed(files: list[str]) -> Iterator[str]:
    """Each module has its line in docs/reference/modules.md, written by `scripts/reference.py`."""
    page = ROOT / "docs" / "reference" / "modules.md"
    text = page.read_text() if page.exists() else ""
    for path in files:
        if is_module(path) and f"`{path}`" not in text:
            yield f"{path}:1: no line in docs/reference/modules.md, run scripts/reference.py"


FILE_CHECKS: Final[tuple[Callable[[str, str, ast.Module], Iterator[Complaint]], ...]] = (
    check_length,
    check_docstring,
    check_init,
    check_words,
    check_reasons,
    check_started,
)
TEXT_CHECKS: Final = (check_text_started, check_links)
TREE_CHECKS: Final = (check_packaging, check_listed)


def is_module(path: str) -> bool:
    """Tell modules of the package from tests, scripts and mere `__init__` files."""
    return path.startswith(FLOORS) and path.endswith(".py") and "__init__" not in path


def tracked_files() -> list[str]:
    """Paths git knows and the disk has, sorted."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def complaints_of(path: str, text: str) -> Iterator[str]:
    """All complaints about one file."""
    if path.endswith(".py"):
        tree = ast.parse(text)
        found = [item for check in FILE_CHECKS for item in check(path, text, tree)]
    elif path.endswith((".md", ".toml", "/run")):
        found = [item for check in TEXT_CHECKS for item in check(path, text)]
    else:
        return
    for line, what in sorted(found):
        yield f"{path}:{line}: {what}"


def _is_program(name: str) -> bool:
    if not name.startswith("prsm"):
        return True
    place = ROOT.joinpath("src", *name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


def main() -> None:
    """Print every complaint; exit 1 if there is one."""
    files = tracked_files()
    texts = [path for path in files if not path.endswith(PICTURES)]
    found = [item for path in texts for item in complaints_of(path, (ROOT / path).read_text())]
    found += [item for check in TREE_CHECKS for item in check(files)]
    print("\n".join(found) if found else f"tidy: {len(files)} files")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
