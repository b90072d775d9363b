"""`python3 scripts/sbom.py [--lock]`: the bill of materials (CycloneDX), or the lock to run with.

Lists what the program needs to run (not what its tests need): each package with version, licence
and the hashes of its files. Knows: `pyproject.toml`, `requirements.lock`, the metadata of `.venv`.
Asks no network; the same lock gives the same bytes. Source: https://cyclonedx.org/docs/1.5/json/
"""

import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==(\S+?)(?: \\)?$")
_NAMED: Final = re.compile(r"^[A-Za-z0-9._-]+")
_NAMESPACE: Final = uuid.UUID("6f1b9b0e-6a0f-5f3e-9d0c-70726d736e6f")


def canonical(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Package -> version and sha256 of each of its files, from a lock."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    name, version, hashes = "", "", list[str]()
    for line in [*text.splitlines(), "end==0"]:
        if pinned := _PINNED.match(line):
            if name:
                found[canonical(name)] = (version, tuple(hashes))
            name, version, hashes = pinned[1], pinned[2], []
        elif "--hash=sha256:" in line:
            hashes.append(line.partition("sha256:")[2].split()[0])
    return found


def needed(project: str, locked: set[str]) -> dict[str, tuple[str, ...]]:
    """Every package the program runs with -> the packages it needs itself.

    Args:
        project: text of pyproject.toml.
        locked: packages that may be needed.
    """
    roots = [name_of(one) for one in tomllib.loads(project)["project"]["dependencies"]]
    graph: dict[str, tuple[str, ...]] = {}
    waiting = [name for name in roots if name in locked]
    while waiting:
        name = waiting.pop()
        if name not in graph:
            graph[name] = tuple(sorted({one for one in _requires(name) if one in locked} - {name}))
            waiting += graph[name]
    return dict(sorted(graph.items()))


def bill_of_materials() -> str:
    """The document as text."""
    project = (ROOT / "pyproject.toml").read_text()
    locked = pins((ROOT / "requirements.lock").read_text())
    graph = needed(project, set(locked))
    about = tomllib.loads(project)["project"]
    top = f"pkg:pypi/{about['name']}@{about['version']}"
    roots = sorted({name_of(one) for one in about["dependencies"]} & graph.keys())
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": top,
                "name": about["name"],
                "version": about["version"],
                "purl": top,
                "licenses": [{"license": {"id": about["license"]}}],
            }
        },
        "components": [_component(name, *locked[name]) for name in graph],
        "dependencies": [
            {"ref": top, "dependsOn": [_purl(name, locked[name][0]) for name in roots]},
            *(
                {
                    "ref": _purl(name, locked[name][0]),
                    "dependsOn": [_purl(one, locked[one][0]) for one in below],
                }
                for name, below in graph.items()
            ),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "serialNumber": f"urn:uuid:{serial}"}
    return json.dumps(head | document, indent=1) + "\n"


def _component(name: str, version: str, hashes: tuple[str, ...]) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": _purl(name, version),
        "name": name,
        "version": version,
        "purl": _purl(name, version),
        "externalReferences": [
            {
                "type": "distribution",
                "url": _purl(name, version),
                "hashes": [{"alg": "SHA-256", "content": one} for one in hashes],
            }
        ],
    }
    if licence := licence_of(name):
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def name_of(requirement: str) -> str:
    """The package a requirement asks for."""
    found = _NAMED.match(requirement)
    assert found is not None, requirement
    return canonical(found[0])


def _requires(name: str) -> Iterator[str]:
    """What a package needs on any machine: its extras are not ours."""
    try:
        wanted = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for one in wanted:
        if "extra ==" not in one.partition(";")[2]:
            yield name_of(one)


def licence_of(name: str) -> str:
    """A package's licence as its own metadata say it; empty where it is not installed."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    if "License-Expression" in about:
        return about["License-Expression"]
    classes = [one for one in about.get_all("Classifier") or () if one.startswith("License ::")]
    if classes:
        return " AND ".join(sorted(one.rpartition(" :: ")[2] for one in classes))
    if "License" not in about:
        return ""
    return about["License"].strip().partition("\n")[0][:100]


def lock_to_run() -> str:
    """The lines of the lock without what only tests and tools need."""
    locked = pins((ROOT / "requirements.lock").read_text())
    graph = needed((ROOT / "pyproject.toml").read_text(), set(locked))
    lines = [
        " \\\n    ".join((f"{name}=={version}", *(f"--hash=sha256:{one}" for one in hashes)))
        for name, (version, hashes) in locked.items()
        if name in graph
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(lock_to_run() if "--lock" in sys.argv[1:] else bill_of_materials(), end="")
