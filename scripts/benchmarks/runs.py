"""A part of the figures: run, with what others took of the machine meanwhile, and kept as a record.

A part is some modules beside this one, each with `measure_all` and `LIMITS`, or some commands that
print one JSON document each, whose numbers become rows named by their path (`write_ms.p99`).
Knows: processes, files. Must not know: what was asked for (`asked`), or how it is shown.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec

from prsm.testnet.bench.machine import LOADED_PERCENT, busy_seconds, commit, machine

ROOT: Final = Path(__file__).resolve().parents[2]
RECORDS: Final = ROOT / "docs" / "figures"  # what the table is made of, committed
LATEST: Final = ROOT / ".bench"  # what ran last here, whoever else used the machine; not committed
END_SECONDS: Final = 15.0  # for a command that was told to end
ORPHANS_SECONDS: Final = 2.0  # for processes a daemon left behind to end
PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
PROGRAMS: Final = {"prsm-testnet": "prsm.testnet", "prsm": "prsm.node.cli.main"}


class Failed(Exception):
    """A part could not be measured; says why in a line."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure.

    Attributes:
        name: of what.
        value: measured.
        unit: of the value and its limit.
        limit: what this machine could do at most, measured in the same run.
        limit_of: name of the row that is the limit.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    limit_of: str = ""

    @property
    def ratio(self) -> float | None:
        """Value / limit, where there is one."""
        return self.value / self.limit if self.limit else None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a part is measured.

    Attributes:
        about: what it does, in a line.
        modules: of `benchmarks`.
        commands: word -> command line that prints one JSON document; rows are `word.path`.
        limit_s: time after which it is given up.
        is_long: takes minutes by itself; not in `all`.
    """

    about: str
    modules: tuple[str, ...] = ()
    commands: dict[str, str] = {}
    limit_s: int = 300
    is_long: bool = msgspec.field(default=False, name="long")


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one run of a part showed.

    Attributes:
        part: its name.
        commit: of the code; `+` behind it: with changes not committed.
        date: its end, UTC.
        machine: what it ran on.
        seconds: of the run.
        others_percent: of one core that other programs took meanwhile; none where nobody looked.
        rows: all of a module, of a document those that somebody asks for.
        failure: why the latest run brought nothing; rows are then of the one before it.
    """

    part: str
    commit: str
    date: str
    machine: str
    seconds: float
    others_percent: float | None
    rows: tuple[Row, ...]
    failure: str = ""

    @property
    def is_free(self) -> bool:
        """Whether others took so little that rates and latencies say something."""
        return self.others_percent is not None and self.others_percent <= LOADED_PERCENT

    def may_replace(self, kept: "Record | None") -> bool:
        """A run beside other programs says less than one on a free machine, whatever its date."""
        return self.is_free or kept is None or not kept.rows or not kept.is_free

    @property
    def others(self) -> str:
        """What is said of the others beside the figures."""
        if self.others_percent is None:
            return "others not looked at"
        loaded = "" if self.is_free else ", loaded: ratios only"
        return f"others took {self.others_percent:.0f} % of a core{loaded}"


class Bench(Protocol):
    """What a module of `benchmarks` has."""

    LIMITS: Mapping[str, str]
    measure_all: Callable[[], Sequence[tuple[str, float, str]]]


def measure(name: str, part: Part, is_asked: Callable[[str], bool]) -> Record:
    """Run a part in this process and its children.

    Args:
        name: of the part.
        part: how.
        is_asked: whether a row of a document is kept.

    Raises:
        Failed: a command printed no document.
    """
    adopt_orphans()
    busy, own, began = busy_seconds(), _own_seconds(), time.monotonic()
    rows = list(_of_modules(part.modules))
    for word, command in part.commands.items():
        document, code = run_command(command)
        found = [Row(f"{word}.exit", code), *flattened(document, word)]
        rows += [row for row in found if is_asked(row.name)]
    seconds = time.monotonic() - began
    _wait_orphans()
    others = (busy_seconds() - busy) - (_own_seconds() - own)
    percent = max(0.0, 100 * others / seconds)
    return record_of(name, rows, seconds=round(seconds, 1), others_percent=round(percent, 1))


def record_of(
    name: str, rows: Sequence[Row], *, seconds: float = 0.0, others_percent: float | None = None
) -> Record:
    """Rows with the commit, machine and hour of now."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    return Record(name, commit(), now, machine(), seconds, others_percent, tuple(rows))


def _of_modules(names: Sequence[str]) -> Iterator[Row]:
    found, limits = list[tuple[str, float, str]](), dict[str, str]()
    for name in names:  # each is loaded when its turn comes: some fork, and want few libraries
        bench = cast("Bench", import_module(f"benchmarks.{name}"))
        found += bench.measure_all()
        limits |= bench.LIMITS
    values = {name: value for name, value, _ in found}
    for name, value, unit in found:
        limit = limits.get(name, "")
        yield Row(name, value, unit, values.get(limit), limit if limit in values else "")


def run_command(command: str) -> tuple[object, int]:
    """The document a command prints, and its exit code; 1 may only mean that a bar is missed.

    Raises:
        Failed: there is no document on its standard output.
    """
    program, *words = shlex.split(command)
    start = [sys.executable, *(["-m", PROGRAMS[program]] if program in PROGRAMS else [program])]
    paths = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([*start, *words], cwd=ROOT, env=paths, stdout=subprocess.PIPE)
    try:
        out, _ = process.communicate()
    except KeyboardInterrupt:  # the command is told as well, and takes its daemons with it
        process.wait(END_SECONDS)
        raise
    try:
        return json.loads(out), process.returncode
    except ValueError:
        raise Failed(f"exit {process.returncode} and no document: {command}") from None


def flattened(document: object, path: str) -> Iterator[Row]:
    """Every number and truth value of a document, named by the way to it."""
    match document:
        case dict():
            for key, value in document.items():
                yield from flattened(value, f"{path}.{key}")
        case list():
            for place, value in enumerate(document):
                yield from flattened(value, f"{path}.{place}")
        case bool() | int() | float():
            yield Row(path, float(document))
        case _:
            pass  # words are not counted


def read(folder: Path, name: str) -> Record | None:
    """The record of a part in a folder, if there is one."""
    path = folder / f"{name}.json"
    return msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else None


def write(folder: Path, record: Record) -> None:
    """Put a record in the place of the one before it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.part}.json"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    fresh.rename(path)


def adopt_orphans() -> None:
    """Become the parent of what daemons leave behind, so that its time is ours, not of others."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """End what a part that did not come to its end left behind: all are children of ours by now."""
    rest, until = threading.Event(), time.monotonic() + END_SECONDS
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in _children():
            os.kill(pid, how)
        while _children() and time.monotonic() < until:
            rest.wait(0.05)
            _wait_orphans()


def _children() -> list[int]:
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for each in found for pid in each]


def _wait_orphans() -> None:
    rest, until = threading.Event(), time.monotonic() + ORPHANS_SECONDS
    try:
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                rest.wait(0.02)
    except ChildProcessError:
        pass  # none left


def _own_seconds() -> float:
    """Processor seconds of this process and of all it started and has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
