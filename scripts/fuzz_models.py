"""Mutated models through sealed children, by the thousand: no daemon may die, no file be read.

Every mutant takes the way of a stranger's model: a child of its own, sealed, scans, pins, cuts and
runs it, while a clock in the same event loop notes how late it is called. Each mutant follows from
its number, so a run goes in turns and is taken up again; totals are in `.fuzz/models.json`, and a
mutant that came out in no typed way is kept in `.fuzz/failed/models/`.

    python scripts/fuzz_models.py --mutants 100000     # until that many in all
    python scripts/fuzz_models.py --seconds 150        # one turn
    python scripts/fuzz_models.py --report [--json]
"""

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio

from prsm.node.inference.pool import Bounds, Pool
from prsm.protocol.errors import LocalError
from prsm.protocol.limits import MIB
from tests.tools.model_mutants import mutant

FOLDER: Final = Path(__file__).resolve().parents[1] / ".fuzz"
TOTALS: Final = FOLDER / "models.json"
FAILED: Final = FOLDER / "failed" / "models"
LAG_BAR_MS: Final = 20.0
LATE_BAR_SECONDS: Final = 0.5  # a child past its limits is dead by then
BOUNDS: Final = Bounds(prepare_seconds=10.0, cpu_seconds=5)
# Words of a refusal that tell how far the mutant came.
_WHERE: Final = (
    *("ended by SIG", "forbidden system call", "processor time", "longer than", "enough memory"),
    *("the runtime refuses", "golden rows", "other bits", "cannot be used", "do not parse"),
)
_TICK_SECONDS: Final = 0.005
_IN_OPEN: Final = 0x20
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


@dataclass(slots=True)
class Totals:
    """What all turns so far have seen."""

    done: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    untyped: int = 0
    files_opened: int = 0
    programs_lost: int = 0  # the fork server died
    lags: dict[str, int] = field(default_factory=dict)  # lateness in whole ms -> ticks
    slowest_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Did nothing happen that must not?"""
        is_quick = self.slowest_seconds <= BOUNDS.prepare_seconds + LATE_BAR_SECONDS
        lost = self.untyped + self.files_opened + self.programs_lost
        return not lost and is_quick and self.lag_ms(0.99) <= LAG_BAR_MS

    def lag_ms(self, share: float) -> float:
        """The lateness that this share of all ticks kept, in ms, rounded up."""
        seen, goal = 0, share * sum(self.lags.values())
        for late in sorted(map(int, self.lags)):
            seen += self.lags[str(late)]
            if seen >= goal:
                return float(late + 1)
        return 0.0


class Bait:
    """A file that mutants name as their weights; the kernel tells who opens it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bait.bin"
        self.path.write_bytes(bytes(4096))
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(self._fd, bytes(self.path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "the bait cannot be watched")
        assert self.path.read_bytes()
        assert self.taken() == 1, "the watch sees an open"

    def taken(self) -> int:
        """How many opens there were since the last call."""
        try:
            return len(os.read(self._fd, 65536)) // 16
        except BlockingIOError:
            return 0


class Turn:
    """One process's share of the work."""

    def __init__(self, totals: Totals, folder: Path, *, goal: int, seconds: float) -> None:
        self._totals, self._folder = totals, folder
        self._goal, self._until = goal, time.monotonic() + seconds
        self._next = totals.done
        self._is_over = False
        self._bait = Bait(folder)
        self._pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=1024 * MIB, bounds=BOUNDS)

    async def run(self, width: int) -> None:
        """Run mutants, `width` at a time, until the goal or the end of the turn."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._pool.run)
            program = self._pool.pid
            nursery.start_soon(self._watch_clock)
            async with trio.open_nursery() as workers:
                for place in range(width):
                    workers.start_soon(self._work, place)
            self._is_over = True
            self._totals.programs_lost += self._pool.pid != program
            self._totals.files_opened += self._bait.taken()
            nursery.cancel_scope.cancel()

    async def _work(self, place: int) -> None:
        source, out = self._folder / f"{place}.onnx", self._folder / f"out-{place}"
        while self._next < self._goal and time.monotonic() < self._until:
            number, self._next = self._next, self._next + 1
            # Made in a thread, as a daemon has its bytes from a disk or the network.
            raw = await trio.to_thread.run_sync(self._make, number, source)
            began = time.monotonic()
            word = await self._try(source, out, number, raw)
            self._totals.slowest_seconds = max(
                self._totals.slowest_seconds, time.monotonic() - began
            )
            outcomes = self._totals.outcomes
            outcomes[word] = outcomes.get(word, 0) + 1
            self._totals.done += 1

    def _make(self, number: int, source: Path) -> bytes:
        raw = mutant(number, bait=str(self._bait.path))
        source.write_bytes(raw)
        return raw

    async def _try(self, source: Path, out: Path, number: int, raw: bytes) -> str:
        try:
            prepared = await self._pool.prepare(source, out_dir=out, stages=[], tokenizer=None)
        except LocalError as error:
            where = next((w for w in _WHERE if w in error.what), "the gate")
            return f"{error.reason}: {where}"
        except Exception as error:  # noqa: BLE001 - what this program looks for
            self._totals.untyped += 1
            FAILED.mkdir(parents=True, exist_ok=True)
            (FAILED / f"{number}.onnx").write_bytes(raw)
            return f"untyped {type(error).__name__}"
        for file in prepared.files:
            (out / file.path).unlink()
        return "prepared"

    async def _watch_clock(self) -> None:
        while not self._is_over:
            due = trio.current_time() + _TICK_SECONDS
            await trio.sleep_until(due)
            late = max(0, int((trio.current_time() - due) * 1000))
            lags = self._totals.lags
            lags[str(late)] = lags.get(str(late), 0) + 1


def load() -> Totals:
    """What earlier turns left, or nothing."""
    if not TOTALS.exists():
        return Totals()
    return Totals(**json.loads(TOTALS.read_bytes()))


def save(totals: Totals) -> None:
    """Keep the totals; a turn that is killed loses only itself."""
    FOLDER.mkdir(exist_ok=True)
    passing = TOTALS.with_suffix(".new")
    passing.write_text(json.dumps(asdict(totals), indent=1))
    passing.replace(TOTALS)


def turn(totals: Totals, *, goal: int, seconds: float, width: int) -> None:
    """Add one turn to the totals."""
    began = time.monotonic()
    where = _SHARED if _SHARED.is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        trio.run(Turn(totals, Path(folder), goal=goal, seconds=seconds).run, width)
    totals.seconds += time.monotonic() - began
    save(totals)


def report(totals: Totals, *, as_json: bool) -> int:
    """Print the totals; 1 if something happened that must not."""
    if as_json:
        lags = {f"p{share}": totals.lag_ms(share / 100) for share in (50, 99)}
        print(json.dumps(asdict(totals) | {"lags": lags, "is_good": totals.is_good}))
        return 0 if totals.is_good else 1
    print(f"{totals.done} mutants in {totals.seconds:.0f} s, one sealed child each")
    for word, count in sorted(totals.outcomes.items(), key=lambda item: -item[1]):
        print(f"  {word:<48} {count:>8}")
    print(f"  came out in no typed way                         {totals.untyped:>8}")
    print(f"  fork server lost, files opened    {totals.programs_lost:>8} {totals.files_opened:>8}")
    print(f"  slowest                                      {totals.slowest_seconds:>8.2f} s")
    p99 = totals.lag_ms(0.99)
    print(f"  loop lag p50, p99 (bar {LAG_BAR_MS:.0f})   {totals.lag_ms(0.5):>8.0f} {p99:>8.0f} ms")
    return 0 if totals.is_good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=100_000, help="of all turns together")
    parser.add_argument("--seconds", type=float, default=1e9, help="of this turn")
    parser.add_argument("--width", type=int, default=2, help="mutants at one time")
    parser.add_argument("--report", action="store_true", help="print what was done so far")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    totals = load()
    if not options.report:
        turn(totals, goal=options.mutants, seconds=options.seconds, width=options.width)
    return report(totals, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
