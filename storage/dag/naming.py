"""CIDs of files and flat directories on disk, by any profile, without a node.

Knows: paths, reading, hashing on two cores. Must not know: the store, loops, the network.
Memory: three buffers of 1 MiB and some 300 bytes an entry, whatever the size. Symbolic
links, devices and whatever else has no bytes of its own are refused; modes and times are no part
of a CID.
"""

import os
import stat
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from prsm.protocol.errors import Unsupported
from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.assembly import DIRECTORY_DEPTH_MAX, ENTRIES_TOTAL_MAX
from prsm.storage.dag.dagpb import ENTRIES_MAX, PbLink, encode_directory
from prsm.storage.dag.unixfs import (
    UNIXFS_V1_2025,
    Dag,
    Importer,
    Keep,
    Profile,
    hash_leaf,
)
from prsm.storage.errors import Conflict
from prsm.storage.wholefile import refused

_RUN_BYTES: Final = MIB  # a multiple of every profile's chunk; 2 MiB cost a tenth more CPU
_HASHERS: Final = 2

Progress = Callable[[int], None]
Run = list[tuple[bytes, int]]  # digest and size of each leaf


@dataclass(frozen=True, slots=True)
class Named:
    """A file or directory below what was named; `path` is relative, `""` for the root itself."""

    path: str
    is_directory: bool
    dag: Dag


@dataclass(frozen=True, slots=True)
class Tree:
    """A path as DAGs: the root last, directories behind what is in them."""

    profile: Profile
    entries: tuple[Named, ...]

    @property
    def root(self) -> Named:
        """What the path itself is."""
        return self.entries[-1]

    @property
    def cid(self) -> str:
        """The root's CID, as programs of this profile print it."""
        return self.text(self.root.dag.root)

    def text(self, cid: Cid) -> str:
        """Print a CID of this tree as programs of its profile do."""
        return self.profile.text(cid)


def forget(_cid: Cid, _raw: bytes) -> None:
    """Keep no node."""


def name_path(
    path: Path,
    profile: Profile = UNIXFS_V1_2025,
    *,
    keep: Keep = forget,
    progress: Progress | None = None,
) -> Tree:
    """Hash a file or a directory.

    Args:
        path: of a regular file, or of a directory of such and of further directories.
        profile: by which it is cut.
        keep: called with each interior node and directory.
        progress: called with the bytes of each run that was read.

    Raises:
        NotFound, StoreUnavailable: it is not there, or cannot be read.
        Unsupported: a symbolic link or a device; too many entries for one directory (a HAMT), in
            all, or below each other.
        Conflict: it changed while it was read.
    """
    entries: list[Named] = []
    with ThreadPoolExecutor(_HASHERS) as pool:
        naming = _Naming(profile, keep, progress or _ignore, pool, entries)
        naming.add(path, "", 0)
    return Tree(profile, tuple(entries))


def name_stream(source: BinaryIO, profile: Profile = UNIXFS_V1_2025) -> Dag:
    """Hash what comes out of a pipe, whose size nobody knows."""
    importer = Importer(profile, forget)
    while chunk := _read_full(source, profile.chunk):
        importer.add_hashed(hash_leaf(chunk, profile).digest, len(chunk))
    return importer.finish()


@dataclass(frozen=True, slots=True)
class _Naming:
    """One walk."""

    profile: Profile
    keep: Keep
    progress: Progress
    pool: ThreadPoolExecutor
    entries: list[Named]

    def add(self, path: Path, name: str, depth: int) -> Dag:
        with refused(path):
            found = path.lstat()
        if depth == 0 and stat.S_ISLNK(found.st_mode):  # a person may name a link; a folder not
            with refused(path):
                found = path.stat()
        if stat.S_ISREG(found.st_mode):
            dag = self._file(path, found)
        elif stat.S_ISDIR(found.st_mode):
            dag = self._directory(path, name, depth)
        else:
            raise Unsupported(
                f"{path} is {_kind(found.st_mode)}",
                hint="only regular files and directories have a CID here",
            )
        self.entries.append(Named(name, stat.S_ISDIR(found.st_mode), dag))
        if len(self.entries) > ENTRIES_TOTAL_MAX:
            raise Unsupported(f"more than {ENTRIES_TOTAL_MAX} files and directories in all")
        return dag

    def _directory(self, path: Path, name: str, depth: int) -> Dag:
        if depth >= DIRECTORY_DEPTH_MAX:
            raise Unsupported(f"{path} is {depth} directories deep, at most {DIRECTORY_DEPTH_MAX}")
        with refused(path):
            names = sorted(entry.name for entry in os.scandir(path))
        if len(names) > ENTRIES_MAX:  # said before anything is hashed
            raise Unsupported(
                f"{path} has {len(names)} entries, at most {ENTRIES_MAX}: more need a HAMT",
                hint="split it into several directories",
            )
        links: dict[str, PbLink] = {}
        size = leaves = 0
        for one in names:
            dag = self.add(path / one, f"{name}/{one}" if name else one, depth + 1)
            links[one] = PbLink(dag.root, dag.size, dag.tsize)
            size, leaves = size + dag.size, leaves + dag.leaves
        raw = encode_directory(links, version=self.profile.version)
        root = hash_block(raw, Codec.DAG_PB)
        self.keep(root, raw)
        tsize = len(raw) + sum(link.tsize for link in links.values())
        return Dag(root, size, tsize, leaves)

    def _file(self, path: Path, found: os.stat_result) -> Dag:
        importer = Importer(self.profile, self.keep)
        with refused(path), path.open("rb", buffering=0) as file:
            if found.st_size <= _RUN_BYTES:
                buffer = memoryview(bytearray(found.st_size))
                self._take(importer, _hash_run(file.fileno(), 0, buffer, self.profile))
            else:
                self._take_runs(importer, file.fileno(), found.st_size)
            after = os.fstat(file.fileno())
        if not found.st_size:
            importer.add_hashed(hash_leaf(b"", self.profile).digest, 0)
        dag = importer.finish()
        if (dag.size, after.st_size, after.st_mtime_ns) != (
            found.st_size,
            found.st_size,
            found.st_mtime_ns,
        ):
            raise Conflict(f"{path} changed while it was read", hint="try again")
        return dag

    def _take_runs(self, importer: Importer, descriptor: int, size: int) -> None:
        # One more than runs at once: the next is read into while the oldest is taken.
        buffers = [memoryview(bytearray(_RUN_BYTES)) for _ in range(_HASHERS + 1)]
        jobs: list[Future[Run]] = []
        for turn, offset in enumerate(range(0, size, _RUN_BYTES)):
            buffer = buffers[turn % len(buffers)]
            jobs.append(self.pool.submit(_hash_run, descriptor, offset, buffer, self.profile))
            if len(jobs) > _HASHERS:
                self._take(importer, jobs.pop(0).result())
        for job in jobs:
            self._take(importer, job.result())

    def _take(self, importer: Importer, run: Run) -> None:
        for digest, size in run:
            importer.add_hashed(digest, size)
        self.progress(sum(size for _, size in run))


def _hash_run(descriptor: int, offset: int, buffer: memoryview, profile: Profile) -> Run:
    """Hash the leaves of one run; runs in a thread of the pool, and lets go of the interpreter."""
    data = buffer[: os.preadv(descriptor, [buffer], offset)]
    chunks = (data[at : at + profile.chunk] for at in range(0, len(data), profile.chunk))
    return [(hash_leaf(chunk, profile).digest, len(chunk)) for chunk in chunks]


def _read_full(source: BinaryIO, size: int) -> bytes:
    """Read until so many bytes are there, or the pipe ends."""
    parts = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _ignore(_count: int) -> None:
    """Tell nobody."""


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
