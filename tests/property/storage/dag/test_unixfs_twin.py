"""The streaming importer against a recursive twin that builds whole levels from a list."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.errors import PrsmError
from prsm.storage.cid import Cid, Codec
from prsm.storage.dag.dagpb import (
    decode_directory,
    decode_file,
    decode_wrapped_leaf,
    encode_wrapped_leaf,
    leaf_frame,
)
from prsm.storage.dag.unixfs import (
    DagReader,
    Profile,
    hash_leaf,
    import_chunks,
    leaf_block,
    leaf_data,
)

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
        link = b"\x0a" + varint(len(cid)) + cid + b"\x12\x00\x18" + varint(tsize)
        raw += b"\x12" + varint(len(link)) + link
        data += b"\x20" + varint(size)
    raw += b"\x0a" + varint(len(data)) + data
    prefix = b"\x12\x20" if len(children[0][0]) == 34 else b"\x01\x70\x12\x20"
    cid = prefix + hashlib.sha256(raw).digest()
    return cid, total, len(raw) + sum(tsize for _, _, tsize in children)


def wrapped(chunk: bytes) -> Twin:
    """A leaf of the legacy profile."""
    data = b"\x12" + varint(len(chunk)) + chunk if chunk else b""
    data = b"\x08\x02" + data + b"\x18" + varint(len(chunk))
    raw = b"\x0a" + varint(len(data)) + data
    return b"\x12\x20" + hashlib.sha256(raw).digest(), len(chunk), len(raw)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(2, 7), st.booleans())
def test_importer_equals_its_recursive_twin(size: int, chunk: int, width: int, old: bool) -> None:
    data = hashlib.shake_128(str((size, chunk)).encode()).digest(size)
    chunks = [data[i : i + chunk] for i in range(0, size, chunk)] or [b""]
    raw = [(b"\x01\x55\x12\x20" + hashlib.sha256(c).digest(), len(c), len(c)) for c in chunks]
    leaves = [wrapped(c) for c in chunks] if old else raw
    nodes: dict[bytes, bytes] = {}

    def keep(cid: Cid, raw: bytes) -> None:
        nodes[cid.digest] = raw

    profile = Profile("any", chunk, width, wrapped=old)
    dag = import_chunks(iter(chunks), profile=profile, keep=keep)
    root = dag.root.raw[2:] if old else dag.root.raw
    assert (root, dag.size, dag.tsize) == twin(leaves, width)
    reader = DagReader(dag.root, size, profile)
    while not reader.is_complete:
        reader.accept(nodes[reader.wanted()[0]])
    assert [leaf.digest for leaf in reader.leaves()] == [cid[-32:] for cid, _, _ in leaves]
    assert [hash_leaf(c, profile).digest for c in chunks] == [cid[-32:] for cid, _, _ in leaves]
    for c in chunks:
        assert bytes(leaf_data(leaf_block(c, profile), profile)) == c


@given(st.binary(max_size=200), st.integers(0, 300))
def test_wrapped_leaf_has_one_spelling(raw: bytes, size: int) -> None:
    """What is taken for a leaf is what would have been written."""
    before, behind = leaf_frame(size)
    for block in (raw, before + raw + behind, before + bytes(size) + behind + raw):
        try:
            data = bytes(decode_wrapped_leaf(block))
        except PrsmError:
            continue
        assert encode_wrapped_leaf(data) == block


@given(st.binary(max_size=300))
def test_decoders_are_total(raw: bytes) -> None:
    """Any bytes give a node or a typed error, nothing else."""
    for decode in (decode_file, decode_directory, decode_wrapped_leaf):
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
