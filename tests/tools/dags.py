"""DAGs in memory for tests: blocks of files and directories, parents first, and a shelf."""

from collections.abc import Iterable, Mapping
from io import BytesIO

from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.car import Block, write_car
from prsm.storage.dag.dagpb import File, PbLink, decode_file, encode_directory, encode_file
from prsm.storage.dag.unixfs import Dag, Profile, Shape, import_chunks, leaf_block

Data = bytes | memoryview


class MemoryShelf:
    """Files as bytearrays."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.folders: list[str] = []

    def make_file(self, path: str, size: int) -> None:
        assert path not in self.files
        self.files[path] = bytearray(size)

    def make_folder(self, path: str) -> None:
        self.folders.append(path)

    def write(self, path: str, offset: int, data: Data) -> None:
        assert offset + len(data) <= len(self.files[path])
        self.files[path][offset : offset + len(data)] = data

    def read(self, path: str, offset: int, size: int) -> bytes:
        return bytes(self.files[path][offset : offset + size])


class CountingShelf:
    """Keeps nothing, counts bytes: for DAGs nobody should have to store."""

    def __init__(self) -> None:
        self.made = 0
        self.written = 0

    def make_file(self, path: str, size: int) -> None:
        assert path is not None
        self.made += size

    def make_folder(self, path: str) -> None:
        assert path is not None

    def write(self, path: str, offset: int, data: Data) -> None:
        assert path is not None
        assert offset >= 0
        self.written += len(data)

    def read(self, path: str, offset: int, size: int) -> bytes:
        assert path is not None
        assert offset >= 0
        return bytes(size)


def file_blocks(data: bytes, profile: Profile) -> tuple[Dag, list[Block]]:
    """Build a file; its blocks, each parent before its children, repeated ones repeated."""
    known: dict[bytes, bytes] = {}
    chunks = [data[at : at + profile.chunk] for at in range(0, len(data), profile.chunk)] or [b""]

    def keep(cid: Cid, raw: bytes) -> None:
        known[cid.digest] = raw

    dag = import_chunks(chunks, profile=profile, keep=keep)
    for chunk in chunks:
        block = leaf_block(chunk, profile)
        known[hash_block(block).digest] = block
    blocks: list[Block] = []

    def walk(cid: Cid, level: int) -> None:
        blocks.append((cid, known[cid.digest]))
        if level:
            for link in decode_file(known[cid.digest], version=profile.version).links:
                walk(link.cid, level - 1)

    walk(dag.root, len(Shape.of(len(data), profile).counts) - 1)
    return dag, blocks


def directory_block(entries: Mapping[str, Dag], *, version: int = 1) -> tuple[Dag, Block]:
    """Build a directory of what was built."""
    links = {name: PbLink(dag.root, dag.size, dag.tsize) for name, dag in entries.items()}
    raw = encode_directory(links, version=version)
    root = hash_block(raw, Codec.DAG_PB)
    tsize = len(raw) + sum(dag.tsize for dag in entries.values())
    return Dag(root, sum(dag.size for dag in entries.values()), tsize, 0), (root, raw)


def node_block(links: Iterable[PbLink], *, version: int = 1) -> tuple[PbLink, Block]:
    """Build an interior node of any shape, and the link to it."""
    children = tuple(links)
    raw = encode_file(File(children), version=version)
    root = hash_block(raw, Codec.DAG_PB)
    size = sum(link.size for link in children)
    return PbLink(root, size, len(raw) + sum(link.tsize for link in children)), (root, raw)


def leaf_link(data: bytes) -> tuple[PbLink, Block]:
    """Build a raw leaf and the link to it."""
    cid = hash_block(data)
    return PbLink(cid, len(data), len(data)), (cid, data)


def car_bytes(root: Cid, blocks: Iterable[Block], *, version: int = 1) -> bytes:
    """Write a CAR in memory."""
    out = BytesIO()
    size = write_car(out, root, blocks, version=version)
    assert size == len(out.getvalue())
    return out.getvalue()
