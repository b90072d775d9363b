"""`scripts/bench.py PART|all`: the figures that were asked for, measured, kept, shown in a table.

    python scripts/bench.py ledger               # one part, beside the limits of the same run
    python scripts/bench.py ledger --record      # the same, kept and put into the table
    python scripts/bench.py all                  # every part that takes no minutes, kept
    python scripts/bench.py all --resume         # only those that did not run at this commit
    python scripts/bench.py all --only net,doors --loaded
    python scripts/bench.py all --render         # the table alone, from what is kept
    python scripts/bench.py chaos --record --document FILE   # what its command printed before

A figure alone says little on a shared machine; its ratio to a limit measured a moment before says
more. A run beside other programs never replaces one of a free machine, unless `--loaded` says so.
Parts and figures: `scripts/figures.toml`. Kept: `docs/figures`, shown in `docs/BENCHMARKS.md`.
Each part of `all` is a process of its own, so that one that fails or hangs ends alone.
"""

import argparse
import compileall
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from benchmarks import asked, runs  # noqa: E402 - the path comes first
from benchmarks.runs import Failed, Record  # noqa: E402 - as above

from prsm.testnet.bench.machine import commit  # noqa: E402 - as above

PAGE: Final = ROOT / "docs" / "BENCHMARKS.md"
ALL: Final = "all"
END_SECONDS: Final = 30.0  # for a part that was told to end to take its daemons with it


def render(sheet: asked.Sheet) -> bool:
    """Write the table and the tables of parts into the page; False if nothing changed."""
    before = PAGE.read_text(encoding="utf-8")
    after = rendered(before, sheet)
    PAGE.write_text(after, encoding="utf-8")
    return after != before


def rendered(page: str, sheet: asked.Sheet) -> str:
    """The page with what the records of today give."""
    records = {name: kept for name in sheet.parts if (kept := runs.read(runs.RECORDS, name))}
    page = asked.placed(page, "figures", asked.table(sheet, records))
    for name, record in records.items():
        if f"<!-- {name} -->" in page:
            page = asked.placed(page, name, asked.part_table(record))
    return page


def keep(record: Record, *, loaded: bool) -> str:
    """Take a run into the committed records if it says more than what is there; says which."""
    kept = runs.read(runs.RECORDS, record.part)
    if kept is not None and not loaded and not record.may_replace(kept):
        runs.write(runs.RECORDS, msgspec.structs.replace(kept, failure=""))
        return f"not kept, {record.others} (--loaded keeps it)"
    runs.write(runs.RECORDS, record)
    return "kept"


def keep_failure(name: str, why: str) -> None:
    """Note on what is kept that the latest run of the part brought nothing."""
    kept = runs.read(runs.RECORDS, name) or runs.record_of(name, ())
    runs.write(runs.RECORDS, msgspec.structs.replace(kept, failure=why))


def run_one(name: str, options: argparse.Namespace, sheet: asked.Sheet) -> int:
    """Measure one part in this process, print it, and keep it if that is wanted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started in the background
    part = sheet.parts[name]
    try:
        if options.document:
            record = _of_document(name, options.document, sheet)
        else:
            record = runs.measure(name, part, lambda row: sheet.is_asked(name, row))
    except Failed as failed:
        print(f"{name}: {failed}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.encode(record).decode())
    else:
        print(f"`python scripts/bench.py {name}`: {asked.part_table(record)}")
    if options.record:
        print(f"{name}: {keep(record, loaded=options.loaded)}", file=sys.stderr)
        render(sheet)
    return 0


def _of_document(name: str, path: Path, sheet: asked.Sheet) -> Record:
    """A record of what a part's only command printed before: of the hour the file is of."""
    try:
        (word,) = sheet.parts[name].commands
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Failed(f"not one document of one command: {error}") from None
    rows = [row for row in runs.flattened(document, word) if sheet.is_asked(name, row.name)]
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    told = document.get("commit", commit()) if isinstance(document, dict) else commit()
    record = runs.record_of(name, rows)
    return msgspec.structs.replace(record, date=f"{at:%Y-%m-%d %H:%M}", commit=told)


def run_all(names: Sequence[str], options: argparse.Namespace, sheet: asked.Sheet) -> int:
    """Measure parts one after the other, each in a process of its own; 1 if one failed."""
    now, failed = commit(), list[str]()
    runs.adopt_orphans()
    for floor in filter(Path.is_dir, (ROOT / "src" / "prsm").iterdir()):
        compileall.compile_dir(floor, quiet=2)
    for count, name in enumerate(names, 1):
        part = sheet.parts[name]
        kept = runs.read(runs.RECORDS, name)
        about = f", {kept.seconds:.0f} s the last time" if kept is not None and kept.seconds else ""
        print(f"{count}/{len(names)} {name}: {part.about}{about}", flush=True)
        record = runs.read(runs.LATEST, name)
        if not (options.resume and record is not None and record.commit == now):
            try:
                record = _alone(name, part.limit_s)
            except Failed as error:
                print(f"  failed: {error}", flush=True)
                failed.append(name)
                keep_failure(name, str(error))
                render(sheet)
                continue
            runs.write(runs.LATEST, record)
        print(f"  {_summary(record, sheet)}; {keep(record, loaded=options.loaded)}", flush=True)
        render(sheet)
    print(f"{len(names) - len(failed)} of {len(names)} parts measured, {PAGE.relative_to(ROOT)}")
    if failed:
        print(f"failed: {', '.join(failed)}; bench.py all --resume tries them again")
    return 1 if failed else 0


def _alone(name: str, limit_s: float) -> Record:
    """Measure a part in a process of its own; what it writes to stderr is in a file."""
    runs.LATEST.mkdir(exist_ok=True)
    said = runs.LATEST / f"{name}.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, name, "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {limit_s:.0f} s; see {said.relative_to(ROOT)}") from None
        finally:
            _end(process)
            runs.end_orphans()
    if process.returncode:
        last = said.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing said"]
        raise Failed(f"exit {process.returncode}: {last[0][:200]}")
    return msgspec.json.decode(out.splitlines()[-1], type=Record)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a part that is still there: first so that it ends its own daemons, then at once."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _summary(record: Record, sheet: asked.Sheet) -> str:
    found = [asked.judge(f, record) for f in sheet.figures if f.part == record.part]
    short = [each.figure.what for each in found if each.verdict is not asked.Verdict.HOLDS]
    told = f"{record.seconds:.0f} s, {len(found) - len(short)} of {len(found)} figures hold"
    return told + "".join(f"\n  short: {what}" for what in short)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the words say."""
    # As in a worker: one thread for each runtime, said before numpy is loaded.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # daemons start as installed ones do
    sheet = asked.load()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*sheet.parts, ALL])
    parser.add_argument("--json", action="store_true", help="one part: print its record")
    parser.add_argument("--record", action="store_true", help="one part: keep it, write the table")
    parser.add_argument("--document", type=Path, help="one part: what its command printed before")
    parser.add_argument("--only", help="all: these parts, with commas")
    parser.add_argument("--resume", action="store_true", help="all: not what ran at this commit")
    parser.add_argument("--render", action="store_true", help="all: run nothing, write the table")
    parser.add_argument("--loaded", action="store_true", help="keep runs beside other programs")
    options = parser.parse_args(arguments)
    if options.part != ALL:
        return run_one(options.part, options, sheet)
    if options.render:
        print("table written" if render(sheet) else "table as it was")
        return 0
    names = options.only.split(",") if options.only else _short_ones(sheet)
    if unknown := sorted(set(names) - set(sheet.parts)):
        parser.error(f"no part {', '.join(unknown)}; one of {', '.join(sheet.parts)}")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = run_all(names, options, sheet)
    except KeyboardInterrupt:
        print("stopped; bench.py all --resume goes on")
        return 130
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return code


def _short_ones(sheet: asked.Sheet) -> list[str]:
    return [name for name, part in sheet.parts.items() if not part.is_long]


if __name__ == "__main__":
    sys.exit(main())
