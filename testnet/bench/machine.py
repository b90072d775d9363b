"""What a figure was measured on, and what others took of it meanwhile.

Knows: /proc, git. Must not know: networks or transactions.
"""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.protocol.limits import MIB

LOADED_PERCENT: Final = 10.0  # of one core, by others: above it a run is marked
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Processor, cores, Python and system, in one line."""
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {system}"


def commit() -> str:
    """The commit of this program; `+` behind it: with changes of the code not committed."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own words
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    short = git("rev-parse", "--short=10", "HEAD")
    changed = git("status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)docs")
    return (short or "unknown") + ("+" if changed else "")


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds at one moment: of all, and of each process asked about."""

    all_s: float
    each_s: tuple[float, ...]

    @classmethod
    def of(cls, pids: tuple[int, ...]) -> "Reading":
        """Read now."""
        return cls(busy_seconds(), tuple(seconds_of(pid) for pid in pids))

    def others_percent(self, after: "Reading", seconds: float) -> float:
        """Of one core, what neither of the processes took between two readings."""
        own = sum(after.each_s) - sum(self.each_s)
        return max(0.0, 100 * (after.all_s - self.all_s - own) / seconds)


def rss_mib(pid: int) -> float:
    """Resident MiB of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return found[0] * 1024 / MIB if found else 0.0


def seconds_of(pid: int) -> float:
    """Processor seconds of a process, its children left out."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """Seconds all processors were busy or taken away; interrupts of our own sockets left out."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, steal = (int(fields[i]) for i in (0, 1, 2, 7))
    return (user + nice + system + steal) / _TICKS
