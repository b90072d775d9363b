"""`python3 scripts/dashboard.py [--check]`: build node/web/ui, the dashboard, into node/web/static.

Writes the types of all methods, checks the sources against them, bundles script and style by
esbuild, and copies page, icon and licences. `--check` compares instead of writing, and says what
differs; without Node it says so and exits 0, since users of the node need none.

Knows: npm, esbuild, the two folders. Must not know: what the page does.
"""

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ROOT / "node" / "web" / "ui"
BUILT: Final = ROOT / "node" / "web" / "static"
TYPES: Final = SOURCES / "src" / "rpc" / "types.ts"
BUNDLE_GZ_MAX: Final = 80_000  # bytes, script and style together
BUNDLED: Final = (
    *("preact", "@preact/signals", "@preact/signals-core"),
    *("uplot", "d3-force", "d3-dispatch", "d3-quadtree", "d3-timer"),
)


def main() -> int:
    """Build or compare; 1 if something differs or is too large."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="compare, write nothing")
    is_check = options.parse_args().check
    if is_check and shutil.which("npm") is None:
        print("dashboard: not compared, there is no npm here")
        return 0
    faults = [] if _write_types(is_check=is_check) else [f"{TYPES.relative_to(ROOT)} is stale"]
    _install()
    _run(["node_modules/.bin/tsc", "--noEmit"])
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)
        _bundle(built)
        faults += _judge(built, is_check=is_check)
    for fault in faults:
        print(f"dashboard: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _write_types(*, is_check: bool) -> bool:
    """Bring the types up to date; False if they were not and may not be written."""
    sys.path.insert(0, str(ROOT / "src"))
    from dashboard_types import render  # noqa: PLC0415 - prsm is found from here on

    names = (*SOURCES.glob("src/**/*.ts"), *SOURCES.glob("src/**/*.tsx"))
    text = render(path.read_text(encoding="utf-8") for path in names if path != TYPES)
    if TYPES.exists() and TYPES.read_text(encoding="utf-8") == text:
        return True
    if not is_check:
        TYPES.parent.mkdir(parents=True, exist_ok=True)
        TYPES.write_text(text, encoding="utf-8")
    return not is_check


def _install() -> None:
    """Fetch what package-lock.json names, unless that is what is there."""
    wanted = (SOURCES / "package-lock.json").read_bytes()
    mark = SOURCES / "node_modules" / ".of-lock"
    if mark.exists() and mark.read_bytes() == wanted:
        return
    _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
    mark.write_bytes(wanted)


def _bundle(out: Path) -> None:
    flags = ["--bundle", "--minify", "--target=es2022", "--legal-comments=none"]
    defines = ["--charset=utf8", "--log-level=warning"]
    esbuild = "node_modules/.bin/esbuild"
    _run([esbuild, "src/main.tsx", *flags, *defines, "--format=esm", f"--outfile={out}/app.js"])
    _run([esbuild, "src/style/app.css", *flags, *defines, f"--outfile={out}/app.css"])
    for name in ("index.html", "favicon.svg"):
        shutil.copyfile(SOURCES / name, out / name)
    (out / "licences.txt").write_text(_licences(), encoding="utf-8")


def _licences() -> str:
    """What the bundled packages ask to be shown with them."""
    parts = []
    for name in BUNDLED:
        folder = SOURCES / "node_modules" / name
        text = (folder / "LICENSE").read_text(encoding="utf-8").strip()
        parts.append(f"{name}\n{'-' * len(name)}\n{text}\n")
    return "\n".join(parts)


def _judge(built: Path, *, is_check: bool) -> list[str]:
    faults = []
    size = sum(
        len(gzip.compress((built / name).read_bytes(), mtime=0)) for name in ("app.js", "app.css")
    )
    print(f"dashboard: {size} bytes gzipped, at most {BUNDLE_GZ_MAX}")
    if size > BUNDLE_GZ_MAX:
        faults.append(f"{size} bytes gzipped, at most {BUNDLE_GZ_MAX}")
    for made in sorted(built.iterdir()):
        kept = BUILT / made.name
        if not is_check:
            BUILT.mkdir(exist_ok=True)
            shutil.copyfile(made, kept)
        elif not kept.exists() or kept.read_bytes() != made.read_bytes():
            faults.append(f"{kept.relative_to(ROOT)} is not what the sources make")
    return faults


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=SOURCES, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
