"""k of n shards: any k give the file back, a damaged one is found, too few are said to be few."""

import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.protocol.errors import LocalError, Unsupported, WireError
from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.cid import decode_cid, hash_block
from prsm.storage.dag.erasure import (
    BadCode,
    Code,
    FalseShards,
    ShardSet,
    TooFewShards,
    decode_set,
    encode_file,
    encode_set,
    rebuild_file,
    rebuild_shards,
    root_of,
    shard_path,
)
from prsm.storage.errors import NotFound

CODE = Code(3, 5)


def made(folder: Path, size: int = 10_000, code: Code = CODE) -> tuple[ShardSet, dict[int, Path]]:
    """A file and its shards in a folder."""
    (folder / "file").write_bytes(Random(size).randbytes(size))
    shards = encode_file(folder / "file", folder, code)
    return shards, {i: shard_path(folder, i) for i in range(code.n)}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_k_shards_give_the_file_and_every_shard_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    n = data.draw(st.integers(2, 12))
    code = Code(data.draw(st.integers(1, n - 1)), n)
    folder = tmp_path_factory.mktemp("shards")
    shards, paths = made(folder, data.draw(st.integers(1, 5_000)), code)
    kept = data.draw(st.lists(st.sampled_from(range(n)), min_size=code.k, unique=True))
    some = {place: paths[place] for place in kept}
    rebuilt = rebuild_file(shards, some, folder / "again")
    assert (folder / "again").read_bytes() == (folder / "file").read_bytes()
    assert rebuilt.used == tuple(sorted(kept)[: code.k])
    lost = data.draw(st.sampled_from(range(n)))
    before = paths[lost].read_bytes()
    (folder / "new").mkdir()
    rebuild_shards(shards, some, folder / "new", [lost])
    assert shard_path(folder / "new", lost).read_bytes() == before


def test_shards_over_several_stripes_hold_the_files_own_leaves(tmp_path: Path) -> None:
    """A shard's leaf is the file's leaf, with the same CID: both are the same block of a store."""
    code, size = Code(2, 3), 5 * LEAF_BYTES + 12_345
    shards, paths = made(tmp_path, size, code)
    raw = (tmp_path / "file").read_bytes()
    leaves = [raw[at : at + LEAF_BYTES] for at in range(0, size, LEAF_BYTES)]
    assert paths[1].read_bytes()[LEAF_BYTES : 2 * LEAF_BYTES] == leaves[3]
    assert {path.stat().st_size for path in paths.values()} == {shards.shard_bytes}
    assert shards.root == root_of(tmp_path / "file").raw
    assert [root_of(paths[i]).raw for i in range(3)] == list(shards.shards)
    del paths[0]
    rebuild_file(shards, paths, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == raw
    (tmp_path / "new").mkdir()
    rebuild_shards(shards, paths, tmp_path / "new", [0, 0])
    assert root_of(shard_path(tmp_path / "new", 0)).raw == shards.shards[0]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_shards_are_found_by_their_hash_and_left_out(tmp_path: Path, damage: str) -> None:
    shards, paths = made(tmp_path)
    for place in (0, 2):
        raw = paths[place].read_bytes()
        if damage == "gone":
            paths[place].unlink()
        else:
            paths[place].write_bytes(raw[:-1] if damage == "cut" else raw[:-1] + b"?")
    rebuilt = rebuild_file(shards, paths, tmp_path / "again")
    assert (rebuilt.used, rebuilt.damaged) == ((1, 3, 4), (0, 2))
    assert root_of(tmp_path / "again").raw == shards.root


def test_too_few_good_shards_are_told_by_number(tmp_path: Path) -> None:
    shards, paths = made(tmp_path)
    paths[4].write_bytes(b"")
    few = {place: paths[place] for place in (0, 1, 4)} | {9: paths[3]}
    with pytest.raises(TooFewShards, match=r"2 good .* 2 missing \[2, 3\], 1 damaged \[4\]"):
        rebuild_file(shards, few, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_shards_of_another_file_are_the_makers_fault(tmp_path: Path) -> None:
    """Each shard has its CID, yet together they are not what the set says."""
    shards, paths = made(tmp_path)
    lie = ShardSet(1, hash_block(b"other").raw, shards.size, shards.k, shards.shards)
    with pytest.raises(FalseShards, match="give"):
        rebuild_file(lie, paths, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    odd = ShardSet(1, shards.root, shards.size, shards.k, (*shards.shards[:4], shards.shards[0]))
    (tmp_path / "new").mkdir()
    with pytest.raises(FalseShards, match="shard 4"):
        rebuild_shards(odd, paths, tmp_path / "new", [4])


@pytest.mark.parametrize(("k", "n"), [(0, 3), (3, 3), (4, 3), (1, 65)])
def test_numbers_that_are_no_code_are_refused(k: int, n: int) -> None:
    with pytest.raises(BadCode, match="no code"):
        Code(k, n)


def test_unwritten_places_and_empty_files_are_refused(tmp_path: Path) -> None:
    shards, paths = made(tmp_path)
    for wanted in ([], [5], [-1]):
        with pytest.raises(BadCode):
            rebuild_shards(shards, paths, tmp_path, wanted)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LocalError, match="empty"):
        encode_file(tmp_path / "empty", tmp_path, CODE)
    with pytest.raises(NotFound):
        encode_file(tmp_path / "nothing", tmp_path, CODE)


def test_set_is_written_and_read_as_a_block(tmp_path: Path) -> None:
    shards, _ = made(tmp_path)
    assert decode_set(encode_set(shards)) == shards
    assert shards.code == CODE
    assert str(decode_cid(shards.root)).startswith("baf")
    with pytest.raises(WireError):
        decode_set(b"junk")
    small = ShardSet(1, shards.root, 1, 2, shards.shards[:2])
    with pytest.raises(BadCode):
        decode_set(encode_set(small))


def test_missing_library_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "zfec", None)
    with pytest.raises(Unsupported, match="zfec") as refused:
        encode_file(tmp_path / "file", tmp_path, CODE)
    assert "erasure" in (refused.value.hint or "")
