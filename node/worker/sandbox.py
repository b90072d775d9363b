"""Seal a child process: rlimits, then Landlock, then seccomp, by ctypes, without root.

Knows system call numbers of Linux on x86_64 and nothing of models. Order matters: Landlock binds
the calling thread and later ones only, so a child is sealed before it makes its first session;
what it needs must be open before (`keep`). A layer the kernel or machine lacks is left out and
named by its absence in `layers()`; a layer that is announced but fails ends the child.

Source: docs/spec/work.md, "Determinism and sandbox"; linux Documentation/userspace-api
(landlock.rst, seccomp_filter.rst).
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LINUX: Final = sys.platform == "linux"
_X86_64: Final = _LINUX and platform.machine() == "x86_64" and sys.maxsize > 2**32

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_GET_SECCOMP: Final = 21
_PR_SET_NO_NEW_PRIVS: Final = 38

# Landlock has the same three numbers on every architecture.
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_FS_WRITE_FILE: Final = 1 << 1
_FS_READ_FILE: Final = 1 << 2
_FS_READ_DIR: Final = 1 << 3
_FS_MAKE_REG: Final = 1 << 8
_FS_TRUNCATE: Final = 1 << 14
_NET_TCP: Final = 0b11  # bind and connect, from ABI 4
_SCOPES: Final = 0b11  # abstract unix sockets and signals, from ABI 6

_SYS_SECCOMP: Final = 317
_SECCOMP_FILTER_TSYNC: Final = 1
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_X32_BIT: Final = 0x40000000
_CLONE: Final = 56
_CLONE_THREAD: Final = 0x00010000
_CLONE3: Final = 435
_PRLIMIT64: Final = 302
_RET_ALLOW: Final = 0x7FFF0000
_RET_EPERM: Final = 0x00050000 | 1
_RET_ENOSYS: Final = 0x00050000 | 38
_RET_KILL: Final = 0x80000000
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06

# What a warm onnxruntime, numpy and CPython use; x86_64 numbers.
_ALLOW: Final = (
    *(0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20),  # read … writev, mmap, signals
    *(24, 25, 28, 35, 39, 60, 63, 96, 97, 98, 99, 100),  # yield, mremap, madvise, getpid, exit
    *(131, 186, 202, 204, 219, 228, 229, 230, 231, 271, 273, 318, 324, 334),  # futex, clock, rseq
)
# What libraries only probe (fcntl could send signals by F_SETOWN), and what a pinning child opens
# inside its directory.
_REFUSE: Final = (
    *(2, 4, 6, 16, 21, 57, 58, 72, 79, 83, 89, 137, 157, 160, 203, 217, 237, 239),
    *(257, 258, 262, 263, 267, 269, 332, 439),
)
_WRITE_FILES: Final = (18, 77, 257)  # pwrite64, ftruncate, openat
# Descriptors: a low bound, and some above the highest kept, which a pinning child opens.
_FILES_MAX: Final = 16
_FILES_SPARE: Final = 8


WITH_DEVICE: Final = ("rlimits",)  # layers of a child that opens a device


@dataclass(frozen=True, slots=True)
class Profile:
    """What one child may have.

    Attributes:
        folder: becomes the current directory; must be empty.
        memory_bytes: address space, all mappings together.
        cpu_seconds: processor time of the child's whole life; SIGKILL follows.
        file_bytes: largest file it may write; 0 closes file writes.
        is_writing: may make, read and write plain files in `folder` (pinning).
        has_device: opens a device, which the layers above limits would forbid: it has limits only,
            and none of address space, of which drivers reserve more than there is memory.
    """

    folder: Path
    memory_bytes: int
    cpu_seconds: int
    file_bytes: int = 0
    is_writing: bool = False
    has_device: bool = False


class SealFailed(OSError):
    """A layer that this system announces could not be applied; the child must not go on."""


def layers() -> tuple[str, ...]:
    """Name the layers this system has, without applying any; three of them are complete."""
    found = ["rlimits"]
    abi = landlock_abi()
    if abi > 0:
        found.append(f"landlock {abi}")
    if _X86_64 and _prctl(_PR_GET_SECCOMP) >= 0:
        found.append("seccomp")
    return tuple(found)


def landlock_abi() -> int:
    """Return the version of the kernel's Landlock, 0 where it has none."""
    if not _LINUX:
        return 0
    abi = _libc().syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, int(abi))


def seal(profile: Profile, *, keep: Sequence[int], parent: int) -> tuple[str, ...]:
    """Close everything this process does not need, for ever.

    Args:
        profile: the bounds of this child.
        keep: file descriptors that stay open; 0 to 2 become /dev/null.
        parent: pid whose death ends this process.

    Returns:
        The layers applied, as `layers` names them.

    Raises:
        SealFailed: an announced layer was refused by the kernel.
    """
    found = layers()
    _close_all_but(keep)
    os.chdir(profile.folder)
    _limit(profile, files_max=max((_FILES_MAX, *(fd + _FILES_SPARE for fd in keep))))
    if _LINUX:
        _must(_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "PDEATHSIG")
        _must(_prctl(_PR_SET_DUMPABLE, 0), "DUMPABLE")
        _must(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "NO_NEW_PRIVS")
    if os.getppid() != parent:
        raise SealFailed("the parent is gone")
    if profile.has_device:
        return WITH_DEVICE
    abi = landlock_abi()
    if abi > 0:
        _landlock(abi, profile)
    if "seccomp" in found:
        _seccomp(profile)
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _must(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise SealFailed(error, f"{what}: {os.strerror(error)}")
    return result


def _close_all_but(keep: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for low in (0, 1, 2):
        os.dup2(null, low)
    start = 3
    for fd in sorted(keep):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 1 << 20)


def _limit(profile: Profile, *, files_max: int) -> None:
    bounds = {
        resource.RLIMIT_AS: profile.memory_bytes,
        resource.RLIMIT_CPU: profile.cpu_seconds,
        resource.RLIMIT_FSIZE: profile.file_bytes,
        resource.RLIMIT_NOFILE: files_max,
        resource.RLIMIT_CORE: 0,
    }
    if profile.has_device:
        del bounds[resource.RLIMIT_AS]
    for which, bound in bounds.items():
        _, hard = resource.getrlimit(which)
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        # A second of grace: SIGXCPU at the soft limit tells what ended the child, SIGKILL does not.
        grace = 1 if which == resource.RLIMIT_CPU and value == bound else 0
        resource.setrlimit(which, (value, value + grace))


def _landlock(abi: int, profile: Profile) -> None:
    libc = _libc()
    rights = (1 << 13) - 1
    for since, bit in ((2, 1 << 13), (3, _FS_TRUNCATE), (5, 1 << 15)):
        rights |= bit if abi >= since else 0
    attributes = struct.pack("<Q", rights)
    if abi >= 4:
        attributes += struct.pack("<Q", _NET_TCP)
    if abi >= 6:
        attributes += struct.pack("<Q", _SCOPES)
    size = ctypes.c_size_t(len(attributes))
    rules = _must(libc.syscall(_LANDLOCK_CREATE, attributes, size, 0), "landlock ruleset")
    if profile.is_writing:
        allowed = _FS_WRITE_FILE | _FS_READ_FILE | _FS_READ_DIR | _FS_MAKE_REG | _FS_TRUNCATE
        folder = os.open(profile.folder, os.O_PATH | os.O_DIRECTORY)
        rule = struct.pack("<Qi", allowed & rights, folder)
        _must(libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0), "landlock rule")
        os.close(folder)
    _must(libc.syscall(_LANDLOCK_RESTRICT, rules, 0), "landlock restrict")
    os.close(rules)


def _seccomp(profile: Profile) -> None:
    code = _filter(profile)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    flags = ctypes.c_uint(_SECCOMP_FILTER_TSYNC)
    _must(_libc().syscall(_SYS_SECCOMP, ctypes.c_uint(1), flags, program), "seccomp filter")


def _filter(profile: Profile) -> bytes:
    """Return the BPF program: architecture first, then one comparison a call, else kill."""
    allow = set(_ALLOW) | (set(_WRITE_FILES) if profile.is_writing else set())
    code = [
        _op(_LD, 4),  # architecture
        _op(_JEQ, _AUDIT_ARCH_X86_64, 1, 0),
        _op(_RET, _RET_KILL),
        _op(_LD, 0),  # number of the call
        _op(_JGE, _X32_BIT, 0, 1),
        _op(_RET, _RET_KILL),
        _op(_JEQ, _CLONE, 0, 4),  # threads yes, processes no
        _op(_LD, 16),
        _op(_JSET, _CLONE_THREAD, 0, 1),
        _op(_RET, _RET_ALLOW),
        _op(_RET, _RET_EPERM),
        _op(_JEQ, _PRLIMIT64, 0, 6),  # may read its limits (third argument NULL), not set them
        _op(_LD, 32),
        _op(_JEQ, 0, 0, 3),
        _op(_LD, 36),
        _op(_JEQ, 0, 0, 1),
        _op(_RET, _RET_ALLOW),
        _op(_RET, _RET_EPERM),
        _op(_JEQ, _CLONE3, 0, 1),
        _op(_RET, _RET_ENOSYS),
    ]
    for number in sorted(allow):
        code += [_op(_JEQ, number, 0, 1), _op(_RET, _RET_ALLOW)]
    for number in sorted(set(_REFUSE) - allow):
        code += [_op(_JEQ, number, 0, 1), _op(_RET, _RET_EPERM)]
    code.append(_op(_RET, _RET_KILL))
    return b"".join(code)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
