"""What the process holds of the machine's memory, and how it gives back what nobody uses.

Knows: the C library's allocator (glibc; another one keeps its own ways), `/proc`. Must not know:
rooms. Threads of their own arenas and blocks of every size leave free pages between used ones; the
allocator keeps them for good unless it is asked, so a daemon of some hours looked as if it leaked.
"""

import ctypes
import os
from typing import Final

import trio

# With one for each of twenty threads, a third of the allocator's memory lay free after ten minutes.
ARENAS_MAX: Final = 2
LOOK_SECONDS: Final = 60.0
GROWN_BYTES: Final = 4 * 1024 * 1024  # less is not worth a walk over all free pages, some 15 ms
# Larger blocks are mapped and go back when freed. It is glibc's own first value, which it raises to
# the size of each that is freed, 32 MiB at most: then they lie among the small ones.
MAPPED_BYTES: Final = 128 * 1024
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LIBC: Final = ctypes.CDLL(None)


def rss_bytes() -> int:
    """Resident memory of this process (Linux); its children are not in it."""
    # Not by `Path`: it is asked for with each status, and text layers cost three times the reading.
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fields = os.read(descriptor, 128).split()
    finally:
        os.close(descriptor)
    return int(fields[1]) * _PAGE_BYTES


def keep_compact() -> None:
    """Let threads share arenas, and large blocks be mapped; before there are threads."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, ARENAS_MAX)
        _LIBC.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)


def give_back() -> None:
    """Give free pages back to the machine; in a thread, for allocation waits meanwhile."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


async def keep_giving_back() -> None:
    """Give back at once, and whenever the process has grown."""
    least = 0
    while True:
        if rss_bytes() > least + GROWN_BYTES:
            await trio.to_thread.run_sync(give_back)
            least = rss_bytes()
        least = min(least, rss_bytes())
        await trio.sleep(LOOK_SECONDS)
