"""`python3 scripts/package.py [--out DIR]`: wheel and sdist of a commit, built twice, compared.

Both are built from `git archive` of the commit, so nothing of the working tree is in them, and the
program knows its commit. The same commit gives the same bytes on every machine: the second build is
made in another folder and must have the same sha256. Knows: git, hatchling. Uses the build tools of
`.venv`; asks no network. Beside them: SHA256SUMS, and the bill of materials (`scripts/sbom.py`).
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from environment import PYTHON, ROOT, VENV
from sbom import bill_of_materials

_TARGETS: Final = ("wheel", "sdist")
_EXPORTED: Final = "_EXPORTED"  # git fills it in: node/version.py, .gitattributes
# What is installed: the package, and what pip keeps about it.
_TOPS: Final = ("prsm/",)


class Built(NamedTuple):
    """One file of a build and the digest of its bytes."""

    path: Path
    sha256: str


def build(commit: str, out: Path) -> list[Built]:
    """Build wheel and sdist of a commit into an empty folder.

    Raises:
        SystemExit: git or the builder failed; the line says what.
    """
    with tempfile.TemporaryDirectory(prefix="prsm-package-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        _export(commit, tree)
        stamp = _run(["git", "log", "-1", "--format=%ct", commit], cwd=ROOT).strip()
        environment = {**os.environ, "SOURCE_DATE_EPOCH": stamp, "PYTHONHASHSEED": "0"}
        for target in _TARGETS:
            command = [str(PYTHON), "-m", "hatchling", "build", "-t", target, "-d", str(out)]
            _run(command, cwd=tree, environment=environment)
    return [Built(path, digest(path)) for path in sorted(out.iterdir())]


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def faults_of_wheel(path: Path) -> list[str]:
    """What a wheel must not be: files beside the package, sources that are missing."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        version = wheel.read("prsm/node/version.py").decode()
    info = f"{'-'.join(path.name.split('-')[:2])}.dist-info/"
    faults = [
        f"{name} is beside the package" for name in names if not name.startswith((*_TOPS, info))
    ]
    wanted = {"prsm/py.typed", "prsm/node/web/app.py", "prsm/protocol/ids.py", f"{info}METADATA"}
    faults += [f"{name} is missing" for name in sorted(wanted - set(names))]
    if "$Format" in version:
        faults.append(f"{_EXPORTED} of node/version.py was not filled in")
    if any(name.endswith((".pyc", ".so")) for name in names):
        faults.append("it is not pure Python")
    return faults


def faults_of_sdist(path: Path) -> list[str]:
    """What a source archive must hold to be built and tested from."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        *("pyproject.toml", "README.md", "LICENSE", "requirements.lock", "PKG-INFO"),
        *("node/version.py", "src/prsm/__init__.py", "scripts/test.py", "docs/ARCHITECTURE.md"),
        *("scripts/deploy/Containerfile", "tests/tools/labs.py"),
    }
    return [f"{name} is missing" for name in sorted(wanted - names)]


def main() -> None:
    """Build twice, compare, look inside, write the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="HEAD", help="what to build (default: HEAD)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where (default: dist/)")
    options = parser.parse_args()
    if not (VENV / "bin" / "python").exists():
        sys.exit("error: the build tools are not installed: try python3 scripts/test.py")
    options.out.mkdir(parents=True, exist_ok=True)
    if leftover := sorted(path.name for path in options.out.iterdir()):
        sys.exit(f"error: {options.out} holds {leftover[0]}: give an empty folder")
    first = build(options.commit, options.out)
    with tempfile.TemporaryDirectory(prefix="prsm-again-") as folder:
        second = build(options.commit, Path(folder))
    faults = [
        f"{one.path.name} differs: {one.sha256} and {two.sha256}"
        for one, two in zip(first, second, strict=True)
        if one.sha256 != two.sha256
    ]
    for built in first:
        look = faults_of_wheel if built.path.suffix == ".whl" else faults_of_sdist
        faults += [f"{built.path.name}: {fault}" for fault in look(built.path)]
    if faults:
        sys.exit("error: " + "\nerror: ".join(faults))
    bill = options.out / "prsm-node.cdx.json"
    bill.write_text(bill_of_materials())
    lines = [f"{one.sha256}  {one.path.name}" for one in [*first, Built(bill, digest(bill))]]
    (options.out / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print("built twice, the same bytes")


def _export(commit: str, tree: Path) -> None:
    archive = tree.with_suffix(".tar")
    _run(["git", "archive", "--format=tar", f"--output={archive}", commit], cwd=ROOT)
    with tarfile.open(archive) as opened:
        opened.extractall(tree, filter="data")


def _run(command: list[str], *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


if __name__ == "__main__":
    main()
