"""The streaming importer against a recursive twin that builds whole levels from a list."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.errors import PrsmError
from prsm.storage.cid import Cid, Codec
from prsm.storage.dagpb import decode_directory, decode_file
from prsm.storage.unixfs import DagReader, Profile, import_chunks

Twin = tuple[bytes, int, int]  # CID bytes, file bytes, Tsize


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def twin(nodes: list[Twin], width: int) -> Twin:
    """Group by width until one is left."""
    if len(nodes) == 1:
        return nodes[0]
    return twin([parent(nodes[i : i + width]) for i in range(0, len(nodes), width)], width)


def parent(children: list[Twin]) -> Twin:
    total = sum(size for _, size, _ in children)
    data = b"\x08\x02\x18" + varint(total)
    raw = b""
    for cid, size, tsize in children:
        link = b"\x0a\x24" + cid + b"\x12\x00\x18" + varint(tsize)
        raw += b"\x12" + varint(len(link)) + link
        data += b"\x20" + varint(size)
    raw += b"\x0a" + varint(len(data)) + data
    cid = b"\x01\x70\x12\x20" + hashlib.sha256(raw).digest()
    return cid, total, len(raw) + sum(tsize for _, _, tsize in children)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(2, 7))
def test_importer_equals_its_recursive_twin(size: int, chunk: int, width: int) -> None:
    data = hashlib.shake_128(str((size, chunk)).encode()).digest(size)
    chunks = [data[i : i + chunk] for i in range(0, size, chunk)] or [b""]
    leaves = [(b"\x01\x55\x12\x20" + hashlib.sha256(c).digest(), len(c), len(c)) for c in chunks]
    nodes: dict[bytes, bytes] = {}

    def keep(cid: Cid, raw: bytes) -> None:
        nodes[cid.digest] = raw

    profile = Profile("any", chunk, width)
    dag = import_chunks(iter(chunks), profile=profile, keep=keep)
    assert (dag.root.raw, dag.size, dag.tsize) == twin(leaves, width)
    reader = DagReader(dag.root, size, profile)
    while not reader.is_complete:
        reader.accept(nodes[reader.wanted()[0]])
    assert [leaf.digest for leaf in reader.leaves()] == [hashlib.sha256(c).digest() for c in chunks]


@given(st.binary(max_size=300))
def test_decoders_are_total(raw: bytes) -> None:
    """Any bytes give a node or a typed error, nothing else."""
    for decode in (decode_file, decode_directory):
        try:
            decode(raw)
        except PrsmError:
            continue


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_reader_is_total(raw: bytes, size: int) -> None:
    try:
        root = Cid(Codec.DAG_PB, hashlib.sha256(raw).digest())
        DagReader(root, size, Profile("any", 16, 3)).accept(raw)
    except PrsmError:
        return
