"""Read whole files through descriptors, by calls a sealed child has (no stat)."""

import os

from prsm.protocol.messages.pipe import ModelRefused


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
