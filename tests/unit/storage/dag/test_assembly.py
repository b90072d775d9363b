"""Files and directories from blocks, and DAGs that only look like them: typed, cheap refusals."""

import tracemalloc
from collections.abc import Iterable
from random import Random

import pytest

from prsm.protocol.errors import Unsupported
from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.assembly import DIRECTORY_DEPTH_MAX, Assembly, profile_of
from prsm.storage.dag.car import Block
from prsm.storage.dag.dagpb import PbLink, Sort, sort_of
from prsm.storage.dag.unixfs import LEGACY, PROFILES, UNIXFS_V1_2025, Dag, Importer, Profile
from prsm.storage.errors import BadDag, Full
from tests.tools.dags import (
    CountingShelf,
    MemoryShelf,
    directory_block,
    file_blocks,
    leaf_link,
    node_block,
)

DATA = Random(1).randbytes(5 * MIB + 77)
KIB = 1024
GIB = 1 << 30


def assemble(root: Cid, blocks: Iterable[Block], *, size_max: int = GIB) -> MemoryShelf:
    shelf = MemoryShelf()
    assembly = Assembly(root, shelf, size_max=size_max)
    feed(assembly, blocks)
    assert assembly.is_complete
    return shelf


def feed(assembly: Assembly, blocks: Iterable[Block]) -> None:
    for cid, block in blocks:
        assembly.accept(cid, block)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, MIB, MIB + 1, 5 * MIB + 77])
def test_file_of_any_profile_comes_back(profile: Profile, size: int) -> None:
    dag, blocks = file_blocks(DATA[:size], profile)
    shelf = MemoryShelf()
    assembly = Assembly(dag.root, shelf, size_max=size)
    for cid, block in dict(blocks).items():
        assert not assembly.is_complete
        assembly.accept(cid, block)
    assert assembly.is_complete
    assert shelf.files == {"": DATA[:size]}
    built = assembly.files[0]
    assert (built.root, built.size) == (dag.root, size)
    nodes = [raw for cid, raw in blocks if cid.codec is Codec.DAG_PB]
    assert set(built.nodes.values()) == {raw for raw in nodes if sort_of(raw) is Sort.FILE}
    if size > MIB:  # widths differ from 175 leaves on
        assert (built.profile.chunk, built.profile.wrapped) == (profile.chunk, profile.wrapped)


@pytest.mark.parametrize("profile", [UNIXFS_V1_2025, LEGACY], ids=["v1", "v0"])
def test_directories_come_back_and_share_blocks(profile: Profile) -> None:
    """Two files are one file, a third begins as they do: no block is needed twice."""
    one, one_blocks = file_blocks(DATA[: 3 * MIB], profile)
    two, two_blocks = file_blocks(DATA[: 2 * MIB] + b"other end", profile)
    empty, empty_blocks = file_blocks(b"", profile)
    inner, inner_block = directory_block({"x": one, "y": empty}, version=profile.version)
    nothing, nothing_block = directory_block({}, version=profile.version)
    entries: dict[str, Dag] = {"a": inner, "b": one, "c": two, "d": nothing, "e": inner}
    root, root_block = directory_block(entries, version=profile.version)
    blocks = dict([root_block, inner_block, *one_blocks, *empty_blocks, *two_blocks, nothing_block])
    shelf = assemble(root.root, blocks.items())
    assert sorted(shelf.folders) == ["", "a", "d", "e"]
    whole = DATA[: 3 * MIB]
    assert shelf.files == {
        "a/x": whole,
        "b": whole,
        "e/x": whole,
        "a/y": b"",
        "e/y": b"",
        "c": DATA[: 2 * MIB] + b"other end",
    }


def test_duplicates_are_skipped_and_strangers_refused() -> None:
    dag, blocks = file_blocks(DATA[: 2 * MIB], UNIXFS_V1_2025)
    assert assemble(dag.root, [*blocks, *blocks]).files[""] == DATA[: 2 * MIB]
    _, stranger = leaf_link(b"stranger")
    with pytest.raises(BadDag, match="before any block"):
        assemble(dag.root, [*blocks, stranger])
    with pytest.raises(BadDag, match="before any block"):
        assemble(dag.root, reversed(blocks))


def test_size_is_refused_before_a_byte_is_kept() -> None:
    dag, blocks = file_blocks(DATA[: 3 * MIB], UNIXFS_V1_2025)
    shelf = CountingShelf()
    assembly = Assembly(dag.root, shelf, size_max=3 * MIB - 1)
    with pytest.raises(Full, match=str(3 * MIB - 1)):
        assembly.accept(*blocks[0])
    assert shelf.made == shelf.written == 0


FULL, FULL_BLOCK = leaf_link(bytes(MIB))
HALF, HALF_BLOCK = leaf_link(bytes(MIB // 2))
TAIL, TAIL_BLOCK = leaf_link(b"tail")
PAIR, PAIR_BLOCK = node_block([FULL, FULL])


def bomb(levels: int, width: int = 1024) -> tuple[PbLink, list[Block]]:
    """Nodes that each link to the one below `width` times: width^levels MiB in a few blocks."""
    link, blocks = FULL, [FULL_BLOCK]
    for _ in range(levels):
        link, block = node_block([link] * width)
        blocks.append(block)
    return link, blocks[::-1]


def lying(link: PbLink, *, size: int | None = None, tsize: int | None = None) -> PbLink:
    return PbLink(
        link.cid, link.size if size is None else size, link.tsize if tsize is None else tsize
    )


def chain(length: int) -> tuple[PbLink, list[Block]]:
    """Nodes of one link each."""
    link, block = FULL, FULL_BLOCK
    blocks = [block]
    for _ in range(length):
        link, block = node_block([link])
        blocks.append(block)
    return link, blocks[::-1]


def tower(depth: int) -> tuple[Cid, list[Block]]:
    """Directories below each other."""
    dag, block = directory_block({})
    blocks = [block]
    for _ in range(depth):
        dag, block = directory_block({"d": dag})
        blocks.append(block)
    return dag.root, blocks[::-1]


def thicket(width: int, depth: int) -> tuple[Cid, list[Block]]:
    """Each directory links to the one below it `width` times: width^depth entries."""
    dag, block = directory_block({})
    blocks = [block]
    for _ in range(depth):
        dag, block = directory_block({f"{index:04}": dag for index in range(width)})
        blocks.append(block)
    return dag.root, blocks[::-1]


def as_file(links: Iterable[PbLink], *below: Block) -> tuple[Cid, list[Block]]:
    root, block = node_block(links)
    return root.cid, [block, *below]


def rooted(found: tuple[PbLink, list[Block]]) -> tuple[Cid, list[Block]]:
    return found[0].cid, found[1]


def raw_node(raw: bytes) -> tuple[Cid, list[Block]]:
    cid = hash_block(raw, Codec.DAG_PB)
    return cid, [(cid, raw)]


def with_false_tsize() -> tuple[Cid, list[Block]]:
    dag, blocks = file_blocks(DATA[: 2 * MIB], UNIXFS_V1_2025)
    root, block = directory_block({"f": Dag(dag.root, dag.size, dag.tsize + 1, 0)})
    return root.root, [block, *blocks]


HOSTILE = {
    "a node that says it is larger than its links": as_file([lying(FULL, size=MIB // 2), HALF]),
    "a leaf shorter than its link says": as_file(
        [FULL, lying(HALF, size=MIB, tsize=MIB), TAIL], FULL_BLOCK, HALF_BLOCK
    ),
    "a short leaf in the middle": as_file([FULL, HALF, FULL]),
    "a node that spans itself": as_file([lying(PAIR, size=1024 * MIB), TAIL], PAIR_BLOCK),
    "a node whose size is that of a leaf": as_file([lying(PAIR, size=MIB), TAIL]),
    "Tsize that lies": as_file([FULL, lying(TAIL, tsize=5)]),
    "Tsize of an entry that lies": with_false_tsize(),
    "a chain of nodes": rooted(chain(9)),
    "a chain of two": rooted(chain(2)),
    "shared subtrees, 1 PiB in four blocks": rooted(bomb(3)),
    "shared subtrees, 16 GiB in three blocks": rooted(bomb(2, 128)),
    "shared subtrees, 1 GiB + 1 leaf": as_file([bomb(1)[0], FULL]),
    "directories below each other": tower(DIRECTORY_DEPTH_MAX + 1),
    "directories that multiply": thicket(100, 5),
    "a file of no profile": as_file([HALF] * 3),
    "an empty file of two leaves": as_file([leaf_link(b"")[0]] * 2),
    "a HAMT": raw_node(b"\x0a\x02\x08\x05"),
    "a symbolic link": raw_node(b"\x0a\x06\x08\x04\x12\x02ab"),
    "metadata": raw_node(b"\x0a\x02\x08\x03"),
    "bytes beside links": raw_node(b"\x0a\x07\x08\x02\x12\x01x\x18\x01" + b"\0"),
    "modes and times": raw_node(b"\x0a\x05\x08\x01\x38\xed\x03"),
    "an identity CID inside": raw_node(
        b"\x12\x0b\x0a\x05\x01\x55\x00\x01x\x12\x00\x18\x01\x0a\x06\x08\x02\x18\x01\x20\x01"
    ),
    "an unknown codec inside": raw_node(
        b"\x12\x2a\x0a\x24\x01\x71\x12\x20"
        + bytes(32)
        + b"\x12\x00\x18\x01\x0a\x06\x08\x02\x18\x01\x20\x01"
    ),
    "an empty block": raw_node(b""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_dag_is_refused_cheaply(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typed error, 8 MiB of memory at most, and no more bytes written than the limit allows."""
    monkeypatch.setattr(
        "prsm.storage.dag.assembly.ENTRIES_TOTAL_MAX", 1000
    )  # counting is slow here
    root, blocks = HOSTILE[name]
    shelf = CountingShelf()
    assembly = Assembly(root, shelf, size_max=GIB)
    tracemalloc.start()
    try:
        with pytest.raises((BadDag, Unsupported, Full)) as caught:
            feed(assembly, blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason in {"bad_encoding", "unsupported", "disk_full"}
    assert peak < 8 * MIB, peak
    assert shelf.written <= shelf.made <= GIB


def test_shared_subtrees_within_the_limit_are_a_file() -> None:
    """1 GiB of zeros is two blocks, and costs what a file of 1 GiB costs: no more."""
    link, blocks = bomb(1)
    shelf = CountingShelf()
    assembly = Assembly(link.cid, shelf, size_max=GIB)
    feed(assembly, blocks)
    assert assembly.is_complete
    assert shelf.written == GIB


@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_found_by_the_root_alone(name: str) -> None:
    """As soon as there are more leaves than the narrowest node has links."""
    profile, size = PROFILES[name], 0
    nodes: list[bytes] = []
    importer = Importer(profile, lambda _cid, raw: nodes.append(raw))
    for index in range(2000):
        size += profile.chunk
        importer.add_hashed(index.to_bytes(32, "big"), profile.chunk)
    root = importer.finish().root
    assert hash_block(nodes[-1], Codec.DAG_PB) == root
    assert profile_of(nodes[-1]) == (profile, size)


def test_any_order_of_parents_before_children_gives_the_same_file() -> None:
    dag, blocks = file_blocks(DATA, LEGACY)
    nodes = [block for block in blocks if len(block[1]) < 100 * KIB]
    rest = [block for block in blocks if block not in nodes]
    assert assemble(dag.root, [*nodes, *rest[::-1]]).files[""] == DATA
