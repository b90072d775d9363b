"""Hashing of whole files, in worker threads: as they are taken in, and to find damaged leaves.

Knows: reading, sha256 on two cores. Must not know: the index, names in the store.

A file is hashed twice as it is taken in, once by leaf and once as a whole (the manifest names
both, since the second does not depend on our DAG code); the second hash runs beside the first,
and the copy is written beside both.
"""

import errno
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import trio

from prsm.protocol.limits import MIB
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Dag, Importer
from prsm.storage.errors import Full
from prsm.storage.interfaces import Leaf

CHUNK: Final = UNIXFS_V1_2025.chunk
_RUN: Final = 8  # leaves in one buffer; 1, 2 and 4 cost 10, 6 and 5 % more
_BUFFERS: Final = 5  # one is filled, one hashed, two written, one waits for whoever is late
# A GiB that is reserved already, past the cache, two or three at a time: 0.6 s; one: 0.8 s, which
# is more than hashing it takes.
_WRITERS: Final = 2
_DIRECT_BYTES_MIN: Final = 64 * MIB
_PAGE: Final = 4096
_HASHERS: Final = 2

assert CHUNK % _PAGE == 0

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Hashed:
    """What was found of a file: its DAG, sha256 of the whole, interior nodes, leaf digests."""

    dag: Dag
    sha256: bytes
    nodes: tuple[bytes, ...]
    leaves: tuple[bytes, ...]


def take_in(old: int, new: int | None, *, size: int, progress: Progress | None = None) -> Hashed:
    """Hash a file, and copy what was hashed.

    Args:
        old: descriptor to read from, at its beginning.
        new: descriptor to write the same bytes to and sync; None: only hash.
        size: bytes that were reserved.
        progress: called with the bytes so far.

    Raises:
        Full: the file has grown beyond `size`.
        OSError: the disk refused.
        Cancelled: whoever waits for this thread is.
    """
    leaves = _LeafHasher()
    whole = hashlib.sha256()
    buffers = [_Buffer() for _ in range(_BUFFERS)]
    writer = _Writer(new, size)
    read = 0
    with ThreadPoolExecutor(1) as second, ThreadPoolExecutor(_WRITERS) as writers:
        for buffer in cycle(buffers):
            trio.from_thread.check_cancelled()
            buffer.wait()
            data = buffer.fill(old)
            if read + len(data) > size:
                raise Full(f"the file has grown beyond the {size} bytes it had")
            buffer.used_by = [
                second.submit(whole.update, data),
                writers.submit(writer.write, buffer.room, len(data), read),
            ]
            leaves.add(data)
            read += len(data)
            if progress is not None:
                progress(read)
            if len(data) < _RUN * CHUNK:
                break
        for buffer in buffers:
            buffer.wait()
    writer.finish(read)
    return leaves.finish(whole.digest())


class _Buffer:
    """Room for some leaves, not filled again before it is hashed and written; page-aligned."""

    def __init__(self) -> None:
        room = mmap.mmap(-1, _RUN * CHUNK)
        with suppress(OSError):  # of huge pages, if there are any: fewer to pin for each write
            room.madvise(mmap.MADV_HUGEPAGE)
        self.room = memoryview(room)
        self.used_by: Sequence[Future[None]] = ()

    def wait(self) -> None:
        for future in self.used_by:
            future.result()

    def fill(self, descriptor: int) -> memoryview:
        """Read until the buffer is full or the file ends."""
        count = 0
        while count < len(self.room) and (some := os.readv(descriptor, [self.room[count:]])):
            count += some
        return self.room[:count]


class _LeafHasher:
    """Builds the DAG of what comes by."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._leaves: list[bytes] = []
        self._importer = Importer(UNIXFS_V1_2025, lambda _cid, raw: self._nodes.append(raw))

    def add(self, data: memoryview) -> None:
        for first in range(0, len(data), CHUNK):
            leaf = data[first : first + CHUNK]
            self._leaves.append(hashlib.sha256(leaf).digest())
            self._importer.add_hashed(self._leaves[-1], len(leaf))

    def finish(self, sha256: bytes) -> Hashed:
        dag = self._importer.finish()
        return Hashed(dag, sha256, tuple(self._nodes), tuple(self._leaves) or (sha256,))


class _Writer:
    """Writes a copy; a large one past the page cache, where the file system can.

    Through the cache a GiB cost 1.0 core seconds more, since the kernel has to find room for it
    first, and it drives out of memory what workers have mapped. Who reads the copy pays for that
    room then; who only keeps it never does.
    """

    def __init__(self, descriptor: int | None, size: int) -> None:
        self._descriptor = descriptor
        self._is_direct = size >= _DIRECT_BYTES_MIN and self._set_direct(os.O_DIRECT)

    def write(self, room: memoryview, count: int, offset: int) -> None:
        """Write the first `count` bytes of a buffer to a place; of several threads at once."""
        if self._descriptor is None:
            return
        done = 0
        while done < count:
            is_direct = self._is_direct  # another thread may find out meanwhile that it cannot be
            # Past the cache whole pages only; what is too much is cut off in the end.
            end = -(-count // _PAGE) * _PAGE if is_direct else count
            try:
                done += os.pwrite(self._descriptor, room[done:end], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not is_direct:
                    raise
                self._is_direct = self._set_direct(0)

    def finish(self, size: int) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, size)
            os.fdatasync(self._descriptor)

    def _set_direct(self, flag: int) -> bool:
        """Switch writing past the cache on or off; says whether it is on."""
        if self._descriptor is None:
            return False
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | flag)
        except OSError:
            return False
        return bool(flag)


def bad_leaves(
    descriptor: int,
    leaves: Sequence[Leaf],
    *,
    threads: int = _HASHERS,
    progress: Progress | None = None,
) -> tuple[int, ...]:
    """Hash leaves of a file and return the places of those that are not what they were.

    A leaf that the disk cannot read counts as damaged: written anew, it may move to good sectors.

    Args:
        descriptor: of the file.
        leaves: some of its leaves, in order.
        threads: how many hash at a time.
        progress: called with the bytes so far.
    """
    runs = [leaves[first : first + _RUN] for first in range(0, len(leaves), _RUN)]
    bad: list[int] = []
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[list[int]]] = []
        for run in _with_tail(runs, threads):
            trio.from_thread.check_cancelled()
            if len(waiting) > threads or (run is None and waiting):
                bad += waiting.pop(0).result()
                done += 1
                if progress is not None:
                    progress(sum(leaf.size for leaf in leaves[: done * _RUN]))
            if run is not None:
                waiting.append(pool.submit(_bad_of, descriptor, run))
        for future in waiting:
            bad += future.result()
    return tuple(bad)


def _with_tail(runs: Sequence[Sequence[Leaf]], threads: int) -> Iterator[Sequence[Leaf] | None]:
    yield from runs
    for _ in range(threads + 1):
        yield None


def _bad_of(descriptor: int, run: Sequence[Leaf]) -> list[int]:
    buffer = memoryview(bytearray(CHUNK))
    bad = []
    for leaf in run:
        data = buffer[: leaf.size]
        try:
            count = _fill_at(descriptor, data, leaf.index * CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            count = -1
        if count != leaf.size or hashlib.sha256(data).digest() != leaf.digest:
            bad.append(leaf.index)
    return bad


def _fill_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    count = 0
    while count < len(buffer):
        some = os.preadv(descriptor, [buffer[count:]], offset + count)
        if not some:
            break
        count += some
    return count
