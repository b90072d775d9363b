"""The importer against foreign CIDs, the reader against its importer and against hostile DAGs."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TypedDict, cast

import pytest

from prsm.protocol.errors import LocalError, PrsmError, Unsupported
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.dagpb import (
    File,
    PbLink,
    decode_directory,
    decode_file,
    encode_directory,
    encode_file,
)
from prsm.storage.dag.unixfs import (
    LEAVES_MAX,
    LEGACY,
    UNIXFS_V1_2025,
    Dag,
    DagReader,
    Importer,
    Profile,
    Shape,
    import_chunks,
)
from prsm.storage.errors import BadDag


class FileVector(TypedDict):
    data: str
    bytes: int
    chunk: int
    width: int
    wrapped: bool
    root: str


class Vectors(TypedDict):
    files: list[FileVector]
    sweep: dict[str, object]
    directory: str


VECTORS = cast(
    "Vectors", json.loads((Path(__file__).parents[3] / "vectors" / "cids.json").read_text())
)
TINY = Profile("tiny", 16, 3)
MIB = 1 << 20


def stream(data: str, size: int) -> Iterator[bytes]:
    """Yield the bytes of a vector in pieces of 1 MiB."""
    dice = Random(1)
    pattern = bytes((7 * i + 3) & 255 for i in range(256)) * (MIB // 256)
    while size > 0:
        piece = {"S": lambda: dice.randbytes(MIB), "P": lambda: pattern, "Z": lambda: bytes(MIB)}
        yield piece[data]()[: min(size, MIB)]
        size -= MIB


def chunked(pieces: Iterator[bytes], chunk: int) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), chunk):
            yield piece[start : start + chunk]


def imported(data: bytes, profile: Profile) -> tuple[Dag, dict[bytes, bytes]]:
    nodes: dict[bytes, bytes] = {}

    def keep(cid: Cid, raw: bytes) -> None:
        assert cid == hash_block(raw, Codec.DAG_PB)
        nodes[cid.digest] = raw

    chunks = (data[i : i + profile.chunk] for i in range(0, len(data), profile.chunk))
    return import_chunks(chunks, profile=profile, keep=keep), nodes


def ignore(_cid: Cid, _raw: bytes) -> None:
    """Drop a node."""


def cases() -> Iterator[object]:
    for vector in VECTORS["files"]:
        name = f"{vector['data']}{vector['bytes']}-{vector['chunk']}-{vector['width']}"
        marks = (pytest.mark.long,) if vector["bytes"] >= 1 << 30 else ()
        if 2 * MIB < vector["bytes"] < 1 << 30:
            marks = (pytest.mark.slow,)
        yield pytest.param(vector, id=name + "-v0" * vector["wrapped"], marks=marks)


@pytest.mark.parametrize("vector", cases())
def test_importer_gives_the_cid_of_other_implementations(vector: FileVector) -> None:
    profile = Profile("vector", vector["chunk"], vector["width"], wrapped=vector["wrapped"])
    chunks = chunked(stream(vector["data"], vector["bytes"]), profile.chunk)
    dag = import_chunks(chunks, profile=profile, keep=ignore)
    assert (dag.root.text_v0() if profile.wrapped else str(dag.root)) == vector["root"]
    assert dag.size == vector["bytes"]


def test_importer_agrees_on_every_small_size() -> None:
    pattern = bytes((7 * i + 3) & 255 for i in range(400))
    roots = [str(imported(pattern[:size], TINY)[0].root) for size in range(401)]
    assert hashlib.sha256("\n".join(roots).encode()).hexdigest() == VECTORS["sweep"]["sha256"]


def test_directory_has_the_cid_of_other_implementations() -> None:
    def leaf(data: bytes) -> PbLink:
        dag, _ = imported(data, UNIXFS_V1_2025)
        return PbLink(dag.root, dag.size, dag.tsize)

    inner = encode_directory({"manifest.json": leaf(b"{}")})
    entries = {
        "weights.bin": leaf(bytes(2_097_153)),
        "model.onnx": leaf(b"model"),
        "a": PbLink(hash_block(inner, Codec.DAG_PB), 0, len(inner) + 2),
    }
    raw = encode_directory(entries)
    assert str(hash_block(raw, Codec.DAG_PB)) == VECTORS["directory"]
    assert list(decode_directory(raw)) == ["a", "model.onnx", "weights.bin"]
    assert {name: link.cid for name, link in decode_directory(raw).items()} == {
        name: link.cid for name, link in entries.items()
    }


def test_leaf_of_the_legacy_profile_for_nothing_is_the_known_one() -> None:
    assert imported(b"", LEGACY)[0].root.text_v0() == (
        "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    )


def test_importer_refuses_chunks_out_of_order() -> None:
    importer = Importer(TINY, ignore)
    importer.add(bytes(16))
    with pytest.raises(LocalError, match="17 bytes"):
        importer.add(bytes(17))
    importer.add(bytes(15))
    with pytest.raises(LocalError, match="last one short"):
        importer.add(bytes(1))
    assert importer.finish().size == 31


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 47, 48, 49, 143, 144, 145, 1000])
def test_reader_finds_the_leaves(size: int) -> None:
    data = Random(size).randbytes(size)
    dag, nodes = imported(data, TINY)
    reader = DagReader(dag.root, size, TINY)
    asked = 0
    while not reader.is_complete:
        for digest in reader.wanted():
            assert reader.accept(nodes[digest]) == digest
            asked += 1
    assert asked == len(nodes)
    leaves = reader.leaves()
    assert len(leaves) == dag.leaves == reader.shape.leaves
    for leaf in leaves:
        chunk = data[leaf.index * 16 : leaf.index * 16 + 16]
        assert (leaf.size, leaf.digest) == (len(chunk), hashlib.sha256(chunk).digest())


def test_reader_asks_for_a_repeated_node_once() -> None:
    dag, nodes = imported(bytes(16 * 9), TINY)
    assert len(nodes) == 2
    reader = DagReader(dag.root, dag.size, TINY)
    reader.accept(nodes[dag.root.digest])
    assert len(reader.wanted()) == 1
    reader.accept(nodes[reader.wanted()[0]])
    assert len(reader.leaves()) == 9


def test_reader_reads_a_legacy_file() -> None:
    profile = Profile("old", 16, 3, wrapped=True)
    dag, nodes = imported(bytes(range(100)), profile)
    reader = DagReader(dag.root, 100, profile)
    while not reader.is_complete:
        reader.accept(nodes[reader.wanted()[0]])
    assert all(leaf.digest in nodes for leaf in reader.leaves())


LEAF = PbLink(hash_block(bytes(16)), 16, 16)
HALF = PbLink(hash_block(bytes(8)), 8, 8)
NODE = encode_file(File((LEAF, LEAF, LEAF)), version=1)
NODE_LINK = PbLink(hash_block(NODE, Codec.DAG_PB), 48, len(NODE) + 48)


@pytest.mark.parametrize(
    ("links", "size"),
    [
        pytest.param((LEAF, LEAF), 48, id="too few links"),
        pytest.param((LEAF, LEAF, LEAF, HALF), 48, id="too many links"),
        pytest.param((LEAF, LEAF, HALF), 48, id="short leaf"),
        pytest.param((LEAF, HALF, LEAF), 40, id="short leaf in the middle"),
        pytest.param((LEAF, LEAF, NODE_LINK), 48, id="a node where a leaf belongs"),
        pytest.param((NODE_LINK, LEAF), 64, id="a leaf where a node belongs"),
        pytest.param((NODE_LINK, NODE_LINK, NODE_LINK), 96, id="shared subtrees multiply"),
        pytest.param((LEAF, LEAF, PbLink(LEAF.cid, 16, 17)), 48, id="Tsize of a leaf"),
        pytest.param((LEAF, LEAF, LEAF), 47, id="larger than stated"),
        pytest.param((LEAF, LEAF, LEAF), 49, id="smaller than stated"),
    ],
)
def test_reader_refuses_another_shape(links: tuple[PbLink, ...], size: int) -> None:
    raw = encode_file(File(links), version=1)
    with pytest.raises(BadDag):
        read_all(raw, size)


def read_all(raw: bytes, size: int) -> None:
    reader = DagReader(hash_block(raw, Codec.DAG_PB), size, TINY)
    blocks = {hashlib.sha256(block).digest(): block for block in (raw, NODE)}
    while not reader.is_complete:
        reader.accept(blocks[reader.wanted()[0]])


def test_reader_refuses_a_false_tsize_below() -> None:
    false = PbLink(NODE_LINK.cid, 48, NODE_LINK.tsize + 1)
    tail = encode_file(File((LEAF,)), version=1)
    last = PbLink(hash_block(tail, Codec.DAG_PB), 16, len(tail) + 16)
    raw = encode_file(File((false, last)), version=1)
    reader = DagReader(hash_block(raw, Codec.DAG_PB), 64, TINY)
    reader.accept(raw)
    reader.accept(NODE)
    with pytest.raises(BadDag, match="its parent says"):
        reader.accept(tail)


def test_reader_refuses_roots_of_the_wrong_codec_and_sizes() -> None:
    with pytest.raises(BadDag):
        DagReader(LEAF.cid, 17, TINY)
    with pytest.raises(BadDag):
        DagReader(NODE_LINK.cid, 16, TINY)
    with pytest.raises(LocalError, match="at most"):
        DagReader(NODE_LINK.cid, LEAVES_MAX * 16 + 1, TINY)
    with pytest.raises(LocalError):
        Shape.of(-1)


def test_reader_refuses_blocks_nobody_asked_for() -> None:
    reader = DagReader(NODE_LINK.cid, 48, TINY)
    with pytest.raises(BadDag, match="not wanted"):
        reader.accept(NODE + b"\0")
    reader.accept(NODE)
    with pytest.raises(BadDag, match="not wanted"):
        reader.accept(NODE)


def test_every_flipped_bit_of_a_node_is_refused_or_another_node() -> None:
    """One node has one spelling: a change is either refused or read as different content."""
    good = decode_file(NODE)
    for bit in range(8 * len(NODE)):
        raw = bytearray(NODE)
        raw[bit // 8] ^= 1 << bit % 8
        try:
            read = decode_file(bytes(raw))
        except PrsmError:
            continue
        assert read != good
        assert encode_file(read, version=1) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x0a\x02\x08\x01",  # a directory
        b"\x0a\x04\x08\x02\x18\x00",  # a file without links
        b"\x0a\x07\x08\x02\x12\x01x\x18\x01",  # bytes inline
        NODE + b"\x0a\x00",
        NODE[:-1],
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x85\x80\x00\x08\x02\x18\x00",
        b"\x12\x00" + NODE,
        b"\x0b\x00",
        bytes(3 * MIB),
    ],
)
def test_decoder_refuses(raw: bytes) -> None:
    with pytest.raises(BadDag):
        decode_file(raw)


@pytest.mark.parametrize("kind", [3, 4, 5])
def test_decoder_names_kinds_that_are_not_read(kind: int) -> None:
    raw = b"\x0a\x02\x08" + bytes([kind])
    for decode in (decode_file, decode_directory):
        with pytest.raises(Unsupported, match="UnixFS"):
            decode(raw)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", "x" * 256])
def test_directory_refuses_names(name: str) -> None:
    with pytest.raises(LocalError, match="name"):
        encode_directory({name: LEAF})


def test_directory_is_bounded_and_has_one_order() -> None:
    with pytest.raises(LocalError, match="4097"):
        encode_directory({str(i): LEAF for i in range(4097)})
    with pytest.raises(LocalError, match="at most 262144"):
        encode_directory({f"{i:0200}": LEAF for i in range(2000)})
    a, b = encode_directory({"a": LEAF}), encode_directory({"b": LEAF})
    end = b"\x0a\x02\x08\x01"
    assert encode_directory({"b": LEAF, "a": LEAF}) == a[: -len(end)] + b
    for raw in (b[: -len(end)] + a, a[: -len(end)] + a, NODE):
        with pytest.raises(BadDag):
            decode_directory(raw)
