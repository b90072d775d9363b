"""Whole files by calls that a sealed child has (no stat): read, mapped, written."""

import ctypes
import errno
import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prsm.protocol.messages.pipe import ModelRefused, OutOfMemory

_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def read_all(fd: int, *, size_max: int) -> bytes:
    """Return the bytes of an open file from its start.

    Raises:
        ModelRefused: more than `size_max` bytes, or fewer than the file had at first.
    """
    size = os.lseek(fd, 0, os.SEEK_END)  # fstat is newfstatat, which could look at other paths
    if size > size_max:
        raise ModelRefused(f"a file of {size} bytes, at most {size_max}")
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        if not part:
            raise ModelRefused(f"a file of {size} bytes ended after {offset}")
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def mapped(fd: int) -> memoryview:
    """Map an open file read-only; unmapped when the last view of it is gone.

    By the C library itself: Python's `mmap` asks for the file's state and copies the descriptor,
    which a sealed child may not do.

    Raises:
        ModelRefused: an empty file, or one that cannot be mapped.
    """
    size = os.lseek(fd, 0, os.SEEK_END)
    if not size:
        raise ModelRefused("a file of weights is empty")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    length, offset = ctypes.c_size_t(size), ctypes.c_long(0)
    address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, offset)
    if address is None or address == _MAP_FAILED:
        error = ctypes.get_errno()
        what = f"{size} bytes of weights cannot be mapped: {os.strerror(error)}"
        raise OutOfMemory(what) if error == errno.ENOMEM else ModelRefused(what)
    pages = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(pages, libc.munmap, ctypes.c_void_p(address), length)
    return memoryview(pages).cast("B").toreadonly()


def write_mapped(path: Path, parts: Sequence[bytes | memoryview]) -> memoryview:
    """Write a new file out of parts, and return it mapped read-only.

    Raises:
        ModelRefused: no room for it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for part in parts:
            left = memoryview(part)
            while left.nbytes:
                left = left[os.write(fd, left) :]
        return mapped(fd)
    except OSError as error:
        raise ModelRefused(f"{path.name} cannot be written: {error.strerror}") from error
    finally:
        os.close(fd)
