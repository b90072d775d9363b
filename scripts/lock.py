"""`python3 scripts/lock.py [--upgrade]`: write the four lock files from pyproject.toml.

Needs `uv`, from PATH or `.venv/bin`; nothing else here does. The locks are made for Python 3.11 on
Linux x86-64 and carry the hashes of every file of each version, so that other Pythons and
processors find theirs. They name no registry: pip takes the one it is configured with.
"""

import os
import shutil
import subprocess
import sys
from typing import Final

from environment import BUILD_LOCK, LOCK, MODEL_LOCK, ROOT, TRAINING_LOCK, VENV

_OPTIONS: Final = (
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--no-annotate",
    "--quiet",
    "--python-version=3.11",
    "--python-platform=x86_64-manylinux_2_28",
)
_LOCKS: Final = (
    (BUILD_LOCK, ("--group=build",)),
    (MODEL_LOCK, ("--group=model", "--no-deps")),
    # torch's build without CUDA lies in its makers' index, not in the usual one: tell uv where.
    (TRAINING_LOCK, ("--group=training", "--constraint=requirements.lock")),
    (LOCK, ("pyproject.toml", "--extra=dev")),
)


def main() -> None:
    """Compile each lock; pins that still fit stay unless `--upgrade` is given."""
    uv = shutil.which("uv", path=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        sys.exit("error: uv is not installed: try .venv/bin/pip install uv")
    for lock, sources in _LOCKS:
        command = [uv, "pip", "compile", *_OPTIONS, *sources, *sys.argv[1:]]
        subprocess.run([*command, f"--output-file={lock.name}"], cwd=ROOT, check=True)
        pins = sum("==" in line for line in lock.read_text().splitlines())
        print(f"{lock.name}: {pins} packages")


if __name__ == "__main__":
    main()
