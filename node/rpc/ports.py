"""Who holds a TCP port of this machine, so that "address in use" can name it.

Asks the holder's `/livez` first, since another node of ours is the usual case; else looks its
process up in /proc (Linux), which shows other users' processes only to root.

Knows: /proc, HTTP. Must not know: who wanted the port. Blocks up to a second: call it in a thread.
"""

from pathlib import Path
from typing import Final

import msgspec

from prsm.node.rpc.client import Client, Target
from prsm.protocol.errors import PrsmError

_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
_ASK_TIMEOUT_S: Final = 1.0


class Alive(msgspec.Struct, frozen=True):
    """What `/livez` of a node says about it."""

    service: str
    version: str
    name: str
    pid: int


def describe_holder(host: str, port: int) -> str:
    """Say in a few words who listens there: a node by name, a program by pid, or unknown."""
    alive = ask_alive(host, port)
    if alive is not None:
        return f"the PRSM node {alive.name!r}, process {alive.pid}"
    pid = find_listener(port)
    if pid is None:
        return "another program (its process is not visible to this user)"
    return f"{_command(pid)!r}, process {pid}"


def ask_alive(host: str, port: int) -> Alive | None:
    """What a node there says about itself; None if no node of ours answers."""
    try:
        with Client(Target(None, (host, port), None), timeout_s=_ASK_TIMEOUT_S) as client:
            status, body = client.get("/livez")
        alive = msgspec.json.decode(body, type=Alive)
    except (PrsmError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return alive if status == 200 and alive.service == "prsm" else None


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


def _command(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "a program"
    words = raw.decode("utf-8", "replace").split("\0")
    return " ".join(word for word in words[:3] if word)[:80] or "a program"
