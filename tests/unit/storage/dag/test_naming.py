"""CIDs of paths: equal to the importer's, in little memory, and refused where there is none."""

import json
import os
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.limits import MIB
from prsm.storage.dag.assembly import DIRECTORY_DEPTH_MAX
from prsm.storage.dag.naming import name_path, name_stream
from prsm.storage.dag.unixfs import LEGACY, PROFILES, UNIXFS_V1_2025, Profile, profile_named
from prsm.storage.errors import Conflict, NotFound
from tests.tools.dags import directory_block, file_blocks

DATA = Random(2).randbytes(5 * MIB + 77)
VECTORS = Path(__file__).parents[3] / "vectors" / "cids.json"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("size", [0, 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 77])
def test_file_has_the_cid_of_the_importer(tmp_path: Path, profile: Profile, size: int) -> None:
    (tmp_path / "f").write_bytes(DATA[:size])
    dag, _ = file_blocks(DATA[:size], profile)
    assert name_path(tmp_path / "f", profile).root.dag == dag
    assert name_stream(BytesIO(DATA[:size]), profile) == dag


def test_folder_has_the_cid_of_other_implementations(tmp_path: Path) -> None:
    (tmp_path / "m" / "a").mkdir(parents=True)
    (tmp_path / "m" / "model.onnx").write_bytes(b"model")
    (tmp_path / "m" / "weights.bin").write_bytes(bytes(2_097_153))
    (tmp_path / "m" / "a" / "manifest.json").write_bytes(b"{}")
    seen: list[int] = []
    tree = name_path(tmp_path / "m", progress=seen.append)
    assert tree.cid == json.loads(VECTORS.read_text())["directory"]
    assert [entry.path for entry in tree.entries] == [
        "a/manifest.json",
        "a",
        "model.onnx",
        "weights.bin",
        "",
    ]
    assert tree.root.dag.size == sum(seen) == 2_097_160


def test_cid_is_printed_as_programs_of_the_profile_do(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    assert name_path(tmp_path / "f", LEGACY).cid.startswith("Qm")
    assert name_path(tmp_path, LEGACY).cid.startswith("Qm")
    assert name_path(tmp_path).cid.startswith("bafybei")
    (tmp_path / "g").write_bytes(b"")
    assert name_path(tmp_path / "g").cid.startswith("bafkrei")


def test_directories_of_version_0_link_by_version_0(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(DATA[:9])
    dag, _ = file_blocks(DATA[:9], LEGACY)
    root, (_, raw) = directory_block({"f": dag}, version=0)
    tree = name_path(tmp_path / "d", LEGACY)
    assert tree.root.dag.root == root.root
    assert b"\x0a\x22\x12\x20" in raw


def test_link_that_was_named_is_followed_and_links_below_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    (tmp_path / "to").symlink_to(tmp_path / "d" / "f")
    assert name_path(tmp_path / "to") == name_path(tmp_path / "d" / "f")
    (tmp_path / "d" / "link").symlink_to("f")
    with pytest.raises(Unsupported, match="a symbolic link"):
        name_path(tmp_path / "d")


def make_fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def make_tower(folder: Path) -> None:
    folder.joinpath(*["d"] * (DIRECTORY_DEPTH_MAX + 1)).mkdir(parents=True)


def make_crowd(folder: Path) -> None:
    for index in range(9):  # one more than the test allows
        (folder / str(index)).touch()


def make_bad_name(folder: Path) -> None:
    (folder / os.fsdecode(b"a\xff")).touch()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_fifo, "a pipe"),
        (make_tower, "deep"),
        (make_crowd, "9 entries, at most 8: more need a HAMT"),
        (make_bad_name, "UTF-8"),
    ],
)
def test_folder_that_has_no_cid_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], why: str
) -> None:
    monkeypatch.setattr("prsm.storage.dag.naming.ENTRIES_MAX", 8)
    make(tmp_path)
    with pytest.raises(LocalError, match=why):
        name_path(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        name_path(tmp_path / "none")
    with pytest.raises(LocalError, match="profile") as caught:
        profile_named("none")
    assert "unixfs-v1-2025" in caught.value.hint


def test_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """Grown, cut, or written over: it has no CID that anybody could use."""
    path = tmp_path / "f"

    def grow(_count: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    def cut(_count: int) -> None:
        os.truncate(path, 3 * MIB)

    for change in (grow, cut):
        path.write_bytes(DATA * 2)
        with pytest.raises(Conflict, match="changed"):
            name_path(path, progress=change)


def test_naming_holds_a_few_runs(tmp_path: Path) -> None:
    """64 MiB sparse: the peak is three runs of 1 MiB and what the importer keeps."""
    with (tmp_path / "f").open("wb") as file:
        file.truncate(64 * MIB)
    name_path(tmp_path / "f")
    tracemalloc.start()
    try:
        tree = name_path(tmp_path / "f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tree.root.dag.leaves == 64
    assert peak < 5 * MIB
    assert tree.profile == UNIXFS_V1_2025
