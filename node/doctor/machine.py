"""Checks D-08 to D-14: disk, memory, open files, clock, ports, versions, sandbox.

Knows: /proc, the configuration. Must not know: what a running node says but its clock and version.

Sources: proc(5), landlock(7), systemd-timesyncd(8) for where the kernel says what it has.
"""

import ctypes
import importlib.util
import os
import platform
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prsm.node.config import Config
from prsm.node.doctor.finding import Check, Finding, Patient
from prsm.node.listeners import find_listener
from prsm.node.rpc.ports import ask_alive, describe_holder
from prsm.node.version import VERSION
from prsm.protocol.errors import LocalError
from prsm.protocol.identity import parse_listen

_FREE_BYTES_MIN: Final = 2 * 2**30  # as storage/diskguard: below it no shard and no work is taken
_FREE_PERCENT_MIN: Final = 5
_CGROUP: Final = Path("/sys/fs/cgroup")
_LANDLOCK_CREATE: Final = 444
_INODES_MIN: Final = 10_000
_FILES_MIN: Final = 1_024  # peers, clients, blocks and children of one node
_FILES_WANTED: Final = 4_096
_FUTURE_MS_MAX: Final = 5_000  # a head this far ahead means that our clock is behind


def _disk(patient: Patient) -> Finding:
    found = os.statvfs(patient.home.data)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    percent = 100 * free // max(1, total)
    what = f"{free / 2**30:.1f} GiB free, {percent} %"
    if free < _FREE_BYTES_MIN or percent < _FREE_PERCENT_MIN:
        what += f"; below {_FREE_BYTES_MIN // 2**30} GiB or {_FREE_PERCENT_MIN} % no work is taken"
        return Finding("D-08", "disk", "warning", what, "prsm model gc")
    if found.f_files and found.f_favail < _INODES_MIN:
        return Finding("D-08", "disk", "warning", f"{found.f_favail} inodes free", "prsm model gc")
    if not os.access(patient.home.data, os.W_OK):
        return Finding(
            "D-08", "disk", "fault", f"{patient.home.data} cannot be written", "mount it read-write"
        )
    return Finding("D-08", "disk", "ok", what)


def _memory(patient: Patient) -> Finding:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    table = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    free, config = min(table.get("MemAvailable", 0), _left_of_group()), patient.config or Config()
    wanted = config.net.memory_bytes
    wanted += config.executor.memory_bytes if config.executor.enabled else 0
    what = (
        f"{free / 2**30:.1f} GiB available; net.memory and executor.memory say {wanted / 2**30:.1f}"
    )
    if free < wanted and not patient.running:
        return Finding("D-09", "memory", "note", what, "prsm config set executor.memory 2GiB")
    return Finding("D-09", "memory", "ok", what)


def _left_of_group() -> int:
    """Bytes the control group of this process may still take (cgroup-v2.rst); without one, many."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        return max(0, int(limit) - used)
    except (OSError, ValueError):  # no such file, or `max`
        return sys.maxsize


def _files(_patient: Patient) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"{soft} open files allowed, up to {hard}"
    if soft < _FILES_MIN:
        return Finding(
            "D-10", "open files", "fault", f"{what}; at least {_FILES_MIN}", "ulimit -n 4096"
        )
    if soft < _FILES_WANTED:
        return Finding(
            "D-10",
            "open files",
            "note",
            f"{what}; {_FILES_WANTED} for many clients",
            "ulimit -n 4096",
        )
    return Finding("D-10", "open files", "ok", what)


def _clock(patient: Patient) -> Finding:
    head = patient.status.get("head_time")
    if isinstance(head, str):
        ahead_ms = int(datetime.fromisoformat(head).timestamp() * 1000) - patient.now_ms
        if ahead_ms > _FUTURE_MS_MAX:
            what = f"the newest block is {ahead_ms / 1000:.0f} s ahead of this clock"
            return Finding("D-11", "clock", "fault", what, "timedatectl set-ntp true")
    if datetime.now(UTC).year < 2024:
        return Finding(
            "D-11", "clock", "fault", "this clock is years behind", "timedatectl set-ntp true"
        )
    if (
        Path("/run/systemd/timesync").is_dir()
        and not Path("/run/systemd/timesync/synchronized").exists()
    ):
        return Finding(
            "D-11", "clock", "warning", "systemd-timesyncd has not synchronised", "timedatectl"
        )
    return Finding("D-11", "clock", "ok", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _ports(patient: Patient) -> Finding:
    if patient.config is None:
        return Finding("D-12", "ports", "note", "not known without a configuration")
    rpc, taken = patient.config.rpc, list[str]()
    if not patient.running:
        if rpc.port and (find_listener(rpc.port) or ask_alive(rpc.host, rpc.port)):
            taken.append(f"{rpc.listen} is taken by {describe_holder(rpc.host, rpc.port)}")
        for address in patient.config.net.listen:
            port = _port_of(address)
            if port and find_listener(port):
                taken.append(f"{address} is taken by process {find_listener(port)}")
    if taken:
        fix = "prsm config set rpc.listen 127.0.0.1:0, or end the other program"
        return Finding("D-12", "ports", "fault", "; ".join(taken), fix)
    return Finding("D-12", "ports", "ok", "held by the node" if patient.running else "free")


def _port_of(address: str) -> int:
    try:
        return parse_listen(address)[1]
    except LocalError:
        return 0  # the configuration says so


def _machine(patient: Patient) -> Finding:
    what = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
    node = patient.status.get("version", VERSION)
    if node != VERSION:
        what = f"the node runs version {node}, this program is {VERSION}"
        return Finding("D-13", "versions", "warning", what, "prsm restart")
    if sys.platform != "linux":
        return Finding("D-13", "versions", "warning", f"{what}; Linux is what is tested", "")
    return Finding("D-13", "versions", "ok", f"{VERSION}, {what}")


def _sandbox(patient: Patient) -> Finding:
    if patient.config is not None and not patient.config.executor.enabled:
        return Finding("D-14", "sandbox", "ok", "executor.enabled is false: no models run here")
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding(
            "D-14",
            "sandbox",
            "fault",
            "onnxruntime is not installed",
            "python3 scripts/environment.py",
        )
    # Asked for its version, as landlock_create_ruleset(2) says; -1 where there is none.
    has_landlock = ctypes.CDLL(None).syscall(_LANDLOCK_CREATE, None, 0, 1) > 0
    has_seccomp = "\nSeccomp:" in Path("/proc/self/status").read_text(encoding="ascii")
    missing = [
        name for name, there in (("landlock", has_landlock), ("seccomp", has_seccomp)) if not there
    ]
    if missing:
        what = f"not seen in this kernel: {', '.join(missing)}"
        return Finding("D-14", "sandbox", "note", what, "prsm sandbox tries each door")
    return Finding("D-14", "sandbox", "ok", "landlock and seccomp")


CHECKS: Final[tuple[Check, ...]] = (_disk, _memory, _files, _clock, _ports, _machine, _sandbox)
ANYWHERE: Final[tuple[Check, ...]] = (_files, _clock, _machine, _sandbox)  # need no folder
