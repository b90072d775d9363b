"""Installs the IPFS daemon that tests of foreign storage talk to; never needed to run the product.

js-ipfs 0.18.1 (npm package `ipfs` 0.66.1) goes into `.ipfs-peers/js-ipfs`, which git ignores:
216 MB, about four minutes. It is archived software: the tests run it on loopback only, without
bootstrap peers or multicast. Without it the tests marked `net` skip and say so.

    python scripts/ipfs_peers.py
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / ".ipfs-peers" / "js-ipfs"
PACKAGE: Final = {
    "name": "k",
    "version": "1.0.0",
    "dependencies": {"ipfs": "0.66.1"},
    # Without the last two: "no valid addresses were provided for transports".
    "overrides": {
        "typedarray.prototype.slice": "1.0.5",
        "@multiformats/mafmt": "11.1.2",
        "@multiformats/multiaddr": "11.6.1",
    },
}
# Node 20 lacks what a dependency calls.
POLYFILL: Final = (
    "if (!Promise.withResolvers) Promise.withResolvers = function () {"
    " let a, b; const p = new this((x, y) => { a = x; b = y });"
    " return { promise: p, resolve: a, reject: b } }\n"
)


def main() -> int:
    """Install; returns the exit code."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not here: install Node 20 first")
        return 1
    if (FOLDER / "node_modules" / ".bin" / "jsipfs").exists():
        print(f"{FOLDER.name} is installed")
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text(json.dumps(PACKAGE))
    (FOLDER / "polyfill.cjs").write_text(POLYFILL)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    return subprocess.run(command, cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
