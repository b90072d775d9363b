"""Play seeds of the simulator in a compiled copy: the same code, by mypyc, in 0.57 of the time.

`python scripts/compiled.py [--into DIR] [--traces 200] -- --seeds A:B --jobs 2 --resume FILE`:
what stands behind `--` goes to `prsm-testnet sim`. Agreement, the ledger's rules, the protocol and
the simulator are compiled in a copy; modules that mypyc would change are left as they are
(`reasons`). Before any seed counts, the traces of `--traces` seeds must be the interpreter's, line
by line. With `--into` the copy is kept and used again as long as its sources are these. Needs a C
compiler.

The gate plays its seeds in the interpreter, as the daemon runs.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ("consensus", "node", "protocol", "storage", "testnet")
COMPILED: Final = ("consensus/pbft", "consensus/ledger", "protocol", "testnet/sim")
DONE: Final = "compiled.txt"  # written behind the last module

_TRACES: Final = """
import hashlib, sys
from prsm.testnet.sim import world
hasher = hashlib.sha256()
for seed in range(int(sys.argv[1])):
    outcome = world.run(seed, traced=True)
    lines = [*outcome.trace, f"{outcome.height} {outcome.heal_ms} {outcome.violations}"]
    hasher.update("\\n".join(lines).encode())
is_compiled = not world.__file__.endswith(".py")
print(hasher.hexdigest(), is_compiled)
"""
_BUILD: Final = """
import sys
from mypyc.build import mypycify
from setuptools import setup
files = sys.argv[1:]
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
options = ["--config-file", "mypy.ini"]
modules = mypycify([*options, *files], opt_level="1", debug_level="0")
setup(name="prsm-compiled", packages=[], ext_modules=modules)
"""


def main() -> int:
    """Build or find the copy, hold it against the interpreter, play; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, metavar="DIR", help="keep the copy here")
    parser.add_argument("--traces", type=int, default=200, metavar="N", help="seeds compared")
    parser.add_argument("sim", nargs="*", help="arguments of prsm-testnet sim, behind --")
    options = parser.parse_args()
    if "--twins" in options.sim:
        parser.error("twins are copied by means a compiled class refuses: prsm-testnet sim --twins")
    if options.into is not None:
        return _play(options.into.resolve(), options.traces, options.sim)
    with tempfile.TemporaryDirectory(prefix="prsm-compiled-") as folder:
        return _play(Path(folder), options.traces, options.sim)


def reasons(path: Path) -> str | None:
    """Why a module is left to the interpreter, None if mypyc keeps its meaning."""
    text = path.read_text(encoding="utf-8")
    if path.name.startswith("__"):
        return "a package or program"
    if re.search(r"^class \w+\(.*(Record|Struct)\b", text, re.MULTILINE):
        return "the keywords of a msgspec class are lost"
    if path.name == "errors.py":
        return "classes of errors elsewhere are no subclasses of compiled ones"
    if path.name in {"batch.py", "plan.py", "twins.py"}:
        return "its objects travel between processes"
    if path.name == "progress.py":
        return "what its lists hold is forgotten, and a file is read by that"
    return None


def loosened(text: str) -> str:
    """A module without the names it knows only for its types: mypyc would look them up too early.

    A dataclass that names a class of a module not imported yet ends the process otherwise.
    """
    found = re.search(r"^if TYPE_CHECKING:\n((?:    .*\n)+)", text, re.MULTILINE)
    if found is None:
        return text
    names = re.findall(r"import (\w+)$", found[1], re.MULTILINE)
    known = "".join(f"{name} = Any\n" for name in names)
    return text.replace(found[0], "from typing import Any\n\n" + known)


def _play(folder: Path, traces: int, arguments: list[str]) -> int:
    if not _is_whole(folder):
        _build(folder)
    if not _is_whole(folder):
        print("the sources changed while they were compiled: try again")
        return 1
    ours, _ = _trace(ROOT / "src", traces)
    theirs, is_compiled = _trace(folder, traces)
    if not is_compiled or ours != theirs:
        print(f"the compiled copy in {folder} plays other runs than the source: not used")
        return 1
    print(f"{traces} traces are the interpreter's", file=sys.stderr)
    command = [sys.executable, "-m", "prsm.testnet.sim", *arguments]
    return subprocess.run(command, env=_environment(folder), check=False).returncode


def _build(folder: Path) -> None:
    """Copy the package and compile what can be.

    Raises:
        SystemExit: no C compiler, or mypyc refused.
    """
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        sys.exit("no C compiler: apt-get install gcc, or play with `prsm-testnet sim`")
    target = folder / "prsm"
    (folder / DONE).unlink(missing_ok=True)
    if target.exists():
        if not (folder / "mypy.ini").exists():
            sys.exit(f"{target} was not made by this script: name another --into")
        shutil.rmtree(target)
    ignore = shutil.ignore_patterns("__pycache__", "node_modules")
    for part in PACKAGE:
        shutil.copytree(ROOT / part, target / part, ignore=ignore)
    for path in (ROOT / "src" / "prsm").glob("*.py"):
        shutil.copy(path, target)
    (folder / "mypy.ini").write_text(
        "[mypy]\npython_version = 3.11\nignore_missing_imports = true\nfollow_imports = silent\n"
    )
    found = sorted(path for part in COMPILED for path in (target / part).glob("*.py"))
    files = [str(path.relative_to(folder)) for path in found if reasons(path) is None]
    texts = {path: path.read_text(encoding="utf-8") for path in found}
    for path, text in texts.items():
        path.write_text(loosened(text), encoding="utf-8")
    print(f"compiling {len(files)} of {len(found)} modules: some minutes", file=sys.stderr)
    built = subprocess.run(
        [sys.executable, "-c", _BUILD, *files],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    for path, text in texts.items():  # which are what was played; the modules come first
        path.write_text(text, encoding="utf-8")
    if built.returncode:
        sys.exit(
            f"mypyc ended with {built.returncode}:\n{built.stdout[-2000:]}{built.stderr[-2000:]}"
        )
    (folder / DONE).write_text(_digest(target))


def _is_whole(folder: Path) -> bool:
    """Was the copy compiled to its end, from sources that are these?"""
    done = folder / DONE
    return done.exists() and done.read_text() == _digest(folder / "prsm") == _digest(ROOT)


def _digest(root: Path) -> str:
    """Names the sources in a tree, and how this script compiles them."""
    hasher = hashlib.sha256(Path(__file__).read_bytes())
    for part in PACKAGE:
        for path in sorted((root / part).rglob("*.py")):
            if "node_modules" not in path.parts:
                hasher.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return hasher.hexdigest()


def _trace(source: Path, count: int) -> tuple[str, bool]:
    """Digest of the traces of the first `count` seeds, and whether compiled code played them."""
    played = subprocess.run(
        [sys.executable, "-c", _TRACES, str(count)],
        env=_environment(source),
        capture_output=True,
        text=True,
        check=True,
    )
    digest, is_compiled = played.stdout.split()
    return digest, is_compiled == "True"


def _environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "PYTHONSAFEPATH": "1"}


if __name__ == "__main__":
    sys.exit(main())
