"""Which process of this machine listens on a TCP port.

Knows: /proc (Linux), which shows other users' processes only to root. Must not know: who asks.
"""

from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp


def find_listener(port: int) -> int | None:
    """The process that listens on that TCP port, if /proc shows it to us."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening(name, port)}
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _has_descriptor(process / "fd", wanted):
            return int(process.name)
    return None


def command_of(pid: int) -> str:
    """The first words of a process's command line, at most 80 characters."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "a program"
    words = raw.decode("utf-8", "replace").split("\0")
    return " ".join(word for word in words[:3] if word)[:80] or "a program"


def _listening(name: str, port: int) -> list[str]:
    try:
        lines = (Path("/proc/net") / name).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    rows = (line.split() for line in lines)
    return [
        row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    ]


def _has_descriptor(folder: Path, wanted: set[str]) -> bool:
    try:
        return any(str(entry.readlink()) in wanted for entry in folder.iterdir())
    except OSError:
        return False  # another user's process, or it ended meanwhile
