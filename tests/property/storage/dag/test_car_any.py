"""CARs under hypothesis: what goes in comes out, and any bytes give blocks or a typed error."""

import hashlib
from io import BytesIO
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.errors import PrsmError
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.assembly import Assembly
from prsm.storage.dag.car import CarReader, encode_header
from prsm.storage.dag.packing import assemble
from prsm.storage.dag.unixfs import PROFILES, Dag
from tests.tools.dags import MemoryShelf, car_bytes, directory_block, file_blocks

CONTENTS = st.dictionaries(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
    ).filter(lambda name: name not in {".", ".."}),
    st.binary(max_size=40),
    max_size=6,
)


@given(CONTENTS, st.sampled_from(sorted(PROFILES)), st.integers(0, 1000))
def test_directories_come_back(contents: dict[str, bytes], name: str, seed: int) -> None:
    """Whatever the order of what is below the root."""
    profile = PROFILES[name]
    files = {path: file_blocks(data, profile) for path, data in contents.items()}
    entries: dict[str, Dag] = {path: dag for path, (dag, _) in files.items()}
    root, root_block = directory_block(entries, version=profile.version)
    below = [block for _, blocks in files.values() for block in blocks]
    Random(seed).shuffle(below)
    raw = car_bytes(root.root, [root_block, *below], version=profile.version)
    shelf = MemoryShelf()
    found = assemble(BytesIO(raw), shelf, size_max=sum(map(len, contents.values())))
    assert shelf.files == contents
    assert {file.path: file.root for file in found.files} == {
        path: dag.root for path, (dag, _) in files.items()
    }


@given(st.binary(max_size=200), st.sampled_from(Codec), st.sampled_from([0, 1]))
def test_reading_is_total(raw: bytes, codec: Codec, version: int) -> None:
    """Any bytes behind a right header, and the header's bytes themselves."""
    root = Cid(codec, hashlib.sha256(raw).digest())
    for content in (raw, encode_header(root, version=version) + raw):
        try:
            assemble(BytesIO(content), MemoryShelf(), size_max=1 << 20)
        except PrsmError:
            continue


@given(st.binary(max_size=200))
def test_any_node_is_taken_or_refused(raw: bytes) -> None:
    cid = hash_block(raw, Codec.DAG_PB)
    try:
        Assembly(cid, MemoryShelf(), size_max=1 << 20).accept(cid, raw)
    except PrsmError:
        return


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 255))
def test_changed_bytes_never_pass(data: bytes, place: int, value: int) -> None:
    """One byte of a CAR is another: refused, or the bytes of the file are the same."""
    dag, blocks = file_blocks(data, PROFILES["legacy"])
    raw = bytearray(car_bytes(dag.root, blocks, version=0))
    raw[place % len(raw)] = value
    shelf = MemoryShelf()
    try:
        reader = CarReader(BytesIO(bytes(raw)))
        assert assemble(BytesIO(bytes(raw)), shelf, size_max=1 << 20).root == reader.root
    except PrsmError:
        return
    assert shelf.files == {"": data}
