"""Commitments and answers from files; their dumb twin is `tests/tools/keepers`."""

from pathlib import Path

import pytest

from prsm.protocol.custody import asked, is_shown
from prsm.protocol.errors import LocalError
from prsm.protocol.limits import DEAL_BYTES_MAX
from prsm.storage.dag.pieces import PIECE_BYTES, answer, commit_file, decode_tree, encode_tree
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.errors import Corrupt, NotFound
from tests.tools.keepers import File

SEED, DEAL = bytes(32), bytes(range(32))
SIZES = (1, 128, 129, 92 * 128, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 77)


@pytest.mark.parametrize("size", SIZES)
def test_commitment_and_answer_are_those_of_the_dumb_twin(size: int, tmp_path: Path) -> None:
    twin, path = File(size), tmp_path / "file"
    raw = b"".join(twin.cells)
    path.write_bytes(raw)
    tree = commit_file(path)
    chunks = [raw[at : at + PIECE_BYTES] for at in range(0, size, PIECE_BYTES)]
    dag = import_chunks(chunks, profile=UNIXFS_V1_2025, keep=lambda _cid, _raw: None)
    assert (tree.root, tree.size, tree.file) == (twin.root, size, dag.root)
    places = asked(SEED, DEAL, size)
    shown = answer(path, tree, places)
    assert (shown.cells, shown.nodes) == twin.show(places)
    assert is_shown(tree.root, size=size, places=places, cells=shown.cells, nodes=shown.nodes)
    assert decode_tree(encode_tree(tree), file=tree.file, root=tree.root) == tree


def test_written_down_commitment_of_another_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    tree = commit_file(path)
    raw = encode_tree(tree)
    for bad in (b"", raw[:-1], raw + b"x", raw[:-32], b"y" + raw[1:]):
        assert decode_tree(bad, file=tree.file, root=tree.root) is None
    assert decode_tree(raw, file=tree.file, root=bytes(32)) is None


def test_file_that_no_deal_is_about_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(NotFound):
        commit_file(path)
    path.write_bytes(b"")
    with pytest.raises(LocalError, match="no bytes"):
        commit_file(path)


def test_file_too_large_for_a_deal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prsm.storage.dag.pieces.DEAL_BYTES_MAX", 10)
    path = tmp_path / "file"
    path.write_bytes(bytes(11))
    with pytest.raises(LocalError, match="11 bytes"):
        commit_file(path)
    assert DEAL_BYTES_MAX == 2**31


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_file_gives_no_answer(damage: str, tmp_path: Path) -> None:
    """Nothing wrong leaves the node: a wrong answer would be slashed."""
    path = tmp_path / "file"
    raw = b"".join(File(PIECE_BYTES + 500).cells)
    path.write_bytes(raw)
    tree = commit_file(path)
    places = asked(SEED, DEAL, tree.size)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(raw[:-1] if damage == "cut" else b"\xff" + raw[1:])
    with pytest.raises(NotFound if damage == "gone" else Corrupt):
        answer(path, tree, (*places[:-1], tree.size // 128))
