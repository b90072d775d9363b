"""Files and flat directories on disk, packed into a CAR and unpacked from one, without a node.

Knows: files on both sides, which of their bytes is which block. Must not know: the store, loops,
the network. Nothing that did not hold as a whole is ever found under the name that was asked for.

Memory: the interior nodes (51 KB a GiB), a block, and what `assembly` and `CarWriter` keep for
each leaf.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prsm.storage.cid import Cid
from prsm.storage.dag.assembly import Assembly, Built, Data, Shelf
from prsm.storage.dag.car import CarReader, CarWriter
from prsm.storage.dag.dagpb import decode_directory, decode_file, version_of
from prsm.storage.dag.naming import Named, Progress, Tree, name_path
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Dag, Profile, Shape, leaf_block
from prsm.storage.errors import BadDag, Conflict, Corrupt
from prsm.storage.wholefile import refused


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out of a CAR."""

    root: Cid
    files: tuple[Built, ...]
    directories: tuple[bytes, ...]
    blocks: int


def pack(
    path: Path,
    out: BinaryIO,
    profile: Profile = UNIXFS_V1_2025,
    *,
    progress: Progress | None = None,
) -> Tree:
    """Write a file or directory as a CAR: hashed once for its root, and again as it is written.

    Args:
        path: as for `name_path`.
        out: takes the CAR.
        profile: by which it is cut.
        progress: called with bytes read, twice those of the files in all.

    Raises:
        Corrupt: it changed between both passes.
        NotFound, StoreUnavailable, Unsupported, Conflict: as for `name_path`.
    """
    nodes: dict[bytes, bytes] = {}

    def keep(cid: Cid, raw: bytes) -> None:
        nodes[cid.digest] = raw

    tree = name_path(path, profile, keep=keep, progress=progress)
    writer = CarWriter(out, tree.root.dag.root, version=profile.version)
    for entry in _top_down(tree.entries, nodes):
        if entry.is_directory:
            writer.add(entry.dag.root, nodes[entry.dag.root.digest])
            continue
        with refused(path / entry.path), (path / entry.path).open("rb", buffering=0) as file:
            export_file(writer, entry.dag, file, nodes, profile)
        if progress is not None:
            progress(entry.dag.size)
    return tree


def export_file(
    writer: CarWriter, dag: Dag, file: BinaryIO, nodes: Mapping[bytes, bytes], profile: Profile
) -> None:
    """Write the blocks of a file, a parent before its children; leaves are read at their places.

    Args:
        writer: of the CAR.
        dag: root and size.
        file: the assembled file, with a descriptor.
        nodes: interior nodes by digest.
        profile: of the file.

    Raises:
        Corrupt: the file or a node is not what it was.
    """
    shape = Shape.of(dag.size, profile)

    def walk(cid: Cid, level: int, position: int) -> None:
        if writer.has(cid):
            return
        if level == 0:
            size = shape.bytes_below(0, position)
            data = os.pread(file.fileno(), size, position * profile.chunk)
            writer.add(cid, leaf_block(data, profile))
            return
        if cid.digest not in nodes:
            raise Corrupt(f"node {cid} of the file is not there")
        writer.add(cid, nodes[cid.digest])
        links = decode_file(nodes[cid.digest], version=profile.version).links
        for index, link in enumerate(links):
            walk(link.cid, level - 1, position * profile.width + index)

    walk(dag.root, len(shape.counts) - 1, 0)


def unpack(
    source: BinaryIO, target: Path, *, size_max: int, progress: Progress | None = None
) -> Unpacked:
    """Write the file or directory in a CAR to `target`, which appears when all of it held.

    Args:
        source: the CAR.
        target: a new name.
        size_max: bytes of all files together.
        progress: called with the bytes of each block.

    Raises:
        Conflict: `target` is there.
        BadCar: a file that is no CAR, is cut off, or has other bytes than it says.
        BadDag: its blocks are no file or directory, or some are missing.
        Unsupported: several roots, CARv2, a HAMT, a symbolic link, an unknown profile.
        Full: more than `size_max` bytes.
    """
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} is there", hint="name a new file or folder")
    shelf = FolderShelf(target.with_name(f".{target.name}.{secrets.token_hex(4)}"))
    try:
        found = assemble(source, shelf, size_max=size_max, progress=progress)
        with refused(target):
            shelf.base.rename(target)
    except BaseException:
        shelf.remove()
        raise
    return found


def assemble(
    source: BinaryIO, shelf: Shelf, *, size_max: int, progress: Progress | None = None
) -> Unpacked:
    """Put together what a CAR holds; as `unpack`, but what was written stays when it fails."""
    reader = CarReader(source)
    assembly = Assembly(reader.root, shelf, size_max=size_max)
    count = 0
    for cid, block in reader:
        assembly.accept(cid, block)
        count += 1
        if progress is not None:
            progress(len(block))
    if not assembly.is_complete:
        raise BadDag(f"the CAR ends, and {assembly.missing} blocks of {reader.root} are missing")
    return Unpacked(reader.root, tuple(assembly.files), tuple(assembly.directories), count)


class FolderShelf:
    """Files below a folder, or one file, as they are put together."""

    def __init__(self, base: Path) -> None:
        """Name where the root goes; nothing is made yet."""
        self.base = base

    def make_file(self, path: str, size: int) -> None:
        """Make an empty file that will have so many bytes."""
        with refused(self._at(path)), self._at(path).open("xb") as file:
            file.truncate(size)

    def make_folder(self, path: str) -> None:
        """Make a folder."""
        with refused(self._at(path)):
            self._at(path).mkdir()

    def write(self, path: str, offset: int, data: Data) -> None:
        """Write verified bytes at their place."""
        with refused(self._at(path)), self._at(path).open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, offset)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Read again what was written."""
        with refused(self._at(path)), self._at(path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def remove(self) -> None:
        """Delete everything."""
        if self.base.is_dir():
            shutil.rmtree(self.base, ignore_errors=True)
        else:
            self.base.unlink(missing_ok=True)

    def _at(self, path: str) -> Path:
        return self.base / path if path else self.base


def _top_down(entries: tuple[Named, ...], nodes: Mapping[bytes, bytes]) -> Iterator[Named]:
    """Yield each directory before what is in it, in the order of its links."""
    by_path = {entry.path: entry for entry in entries}
    stack = [entries[-1]]
    while stack:
        entry = stack.pop()
        yield entry
        if not entry.is_directory:
            continue
        raw = nodes[entry.dag.root.digest]
        below = f"{entry.path}/" if entry.path else ""
        names = list(decode_directory(raw, version=version_of(raw)))
        stack += [by_path[below + name] for name in reversed(names)]
