"""Try what a sealed child must not do, each attempt in a process of its own, as a plain user.

`python -m prsm.node.worker.probes none|sealed|pinning` prints JSON: the layers, milliseconds of a
seal, and each probe with "open" or how it was closed. Unsealed first: a probe that is closed
anyway proves nothing. Started by `prsm sandbox`; knows the sandbox, and nothing of models.
"""

import ctypes
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from prsm.node.worker.sandbox import Profile, layers, seal

_NOBODY: Final = 65534
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_GIB: Final = 1024**3
_SEALS: Final = 11
MODES: Final = ("none", "sealed", "pinning")


class World:
    """What there is to attack: a keystore, servers, a descriptor left open, a parent."""

    def __init__(self) -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        _LIBC.prctl(4, 1, 0, 0, 0)  # dumpable again: a change of user clears it
        self.folder = Path(tempfile.mkdtemp(prefix="prsm-probe-"))
        self.empty = self.folder / "empty"
        self.empty.mkdir()
        self.keystore = self.folder / "node.key"
        self.keystore.write_bytes(b"secret")
        self.open_key = os.open(self.keystore, os.O_RDONLY)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(f"\0prsm-probe-{os.getpid()}")
        self.unix.listen()
        self.secret = ctypes.create_string_buffer(b"memory of the parent")


def _syscall(number: int, *arguments: int) -> None:
    result = _LIBC.syscall(number, *(ctypes.c_long(value) for value in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def _read_parent(world: World) -> None:
    here = ctypes.create_string_buffer(8)

    ours = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)  # struct iovec
    theirs = (ctypes.c_size_t * 2)(ctypes.addressof(world.secret), 8)
    pid = os.getppid()
    _syscall(310, pid, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)


def _write_here(size: int) -> None:
    fd = os.open("new", os.O_CREAT | os.O_RDWR)
    if os.write(fd, bytes(size)) != size:
        raise OSError("a short write")


def _lower_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))


PROBES: Final[dict[str, Callable[[World], object]]] = {
    "read the keystore": lambda w: w.keystore.read_bytes(),
    "open the keystore by openat": lambda w: os.open(
        w.keystore.name, os.O_RDONLY, dir_fd=os.open(w.folder, os.O_RDONLY)
    ),
    "read /etc/passwd": lambda _: Path("/etc/passwd").read_bytes(),
    "list /": lambda _: list(Path("/").iterdir()),
    "stat a file": lambda w: w.keystore.stat(),
    "read a link": lambda _: Path("/proc/self/exe").readlink(),
    "write a file elsewhere": lambda w: (w.folder / "new").write_bytes(b"x"),
    "write a file here": lambda _: _write_here(10),
    "write more than the limit here": lambda _: _write_here(4096),
    "open a socket file here": lambda _: socket.socket(socket.AF_UNIX).bind("socket"),
    "make a directory": lambda _: Path("folder").mkdir(),
    "remove a file": lambda w: w.keystore.unlink(),
    "read a descriptor left open": lambda w: os.pread(w.open_key, 6, 0),
    "connect by TCP": lambda w: socket.socket().connect(w.tcp.getsockname()),
    "send by UDP": lambda w: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
        b"x", w.udp.getsockname()
    ),
    "connect to a unix socket": lambda w: socket.socket(socket.AF_UNIX).connect(
        w.unix.getsockname()
    ),
    "listen": lambda _: socket.socket().bind(("127.0.0.1", 0)),
    "fork": lambda _: _fork(),
    "exec": lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606 - it must fail
    "signal the parent": lambda _: os.kill(os.getppid(), 0),
    "read the parent's memory": _read_parent,
    "make an anonymous file": lambda _: os.memfd_create("x"),
    "allocate 8 GiB": lambda _: mmap.mmap(-1, 8 * _GIB),
    "change a limit": lambda _: _lower_limit(),
    "make a user namespace": lambda _: _syscall(272, 0x10000000),
    "trace the parent": lambda _: _syscall(101, 0x4206, os.getppid(), 0, 0),  # PTRACE_SEIZE
    "signal everybody": lambda _: os.kill(-1, 0),
    "open a raw socket": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "make a session": lambda _: os.setsid(),
    "watch files": lambda _: _syscall(294, 0),  # inotify_init1
    "make keys": lambda _: _syscall(250, 0, -3, 1),  # keyctl: get the session keyring
    "run by io_uring": lambda _: _syscall(
        425, 1, ctypes.addressof(ctypes.create_string_buffer(120))
    ),
}


def _profile(folder: Path, mode: str) -> Profile:
    if mode == "pinning":
        return Profile(folder, 2 * _GIB, 60, file_bytes=1024, is_writing=True)
    return Profile(folder, 2 * _GIB, 60)


def attempt(probe: Callable[[World], object], world: World, mode: str) -> str:
    """Fork, seal, try; say how it ended."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.chdir(world.empty)
        try:
            if mode != "none":
                seal(_profile(world.empty, mode), keep=[], parent=parent)
        except OSError:
            os._exit(3)
        try:
            probe(world)
        except (OSError, MemoryError, ValueError):  # setrlimit turns EPERM into ValueError
            os._exit(1)
        except BaseException:  # noqa: BLE001, ASYNC103 - a wrong probe must not look closed; no trio
            os._exit(4)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return {0: "open", 1: "refused"}.get(code, f"failed {code}")


def seal_ms(world: World, mode: str) -> float:
    """Milliseconds to seal a fresh child, median of some; 0 when none is sealed."""
    return (
        statistics.median(_seal_once(world, mode) for _ in range(_SEALS)) if mode != "none" else 0
    )


def _seal_once(world: World, mode: str) -> float:
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        begin = time.perf_counter()
        seal(_profile(world.empty, mode), keep=[writer], parent=parent)
        os.write(writer, struct.pack("d", time.perf_counter() - begin))
        os._exit(0)
    os.waitpid(pid, 0)
    (seconds,) = struct.unpack("d", os.read(reader, 8))
    os.close(reader)
    os.close(writer)
    return float(seconds) * 1000


def main(arguments: Sequence[str]) -> int:
    """Try all probes and print what came of them."""
    if len(arguments) != 1 or arguments[0] not in MODES:
        sys.stderr.write(f"prsm.node.worker.probes takes one of {', '.join(MODES)}\n")
        return 2
    [mode] = arguments
    world = World()
    try:
        probes = {name: attempt(probe, world, mode) for name, probe in PROBES.items()}
        took = round(seal_ms(world, mode), 3)
    finally:
        shutil.rmtree(world.folder)
    answer = {"layers": layers(), "uid": os.getuid(), "seal_ms": took, "probes": probes}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
