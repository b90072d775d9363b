"""Paths into CARs and out again; whatever does not hold leaves nothing behind."""

import tracemalloc
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from prsm.protocol.errors import PrsmError
from prsm.protocol.limits import MIB
from prsm.storage.dag.car import BadCar, CarReader, CarWriter
from prsm.storage.dag.naming import name_path
from prsm.storage.dag.packing import export_file, pack, unpack
from prsm.storage.dag.unixfs import LEGACY, PROFILES, UNIXFS_V1_2025, Profile
from prsm.storage.errors import BadDag, Conflict, Corrupt, Full
from tests.tools.dags import car_bytes, directory_block, file_blocks

DATA = Random(4).randbytes(3 * MIB + 5)
GIB = 1 << 30


def make_folder(folder: Path) -> Path:
    (folder / "in" / "sub" / "none").mkdir(parents=True)
    (folder / "in" / "a").write_bytes(DATA)
    (folder / "in" / "sub" / "same").write_bytes(DATA)
    (folder / "in" / "sub" / "empty").write_bytes(b"")
    (folder / "in" / "z\u00e4").write_bytes(b"z")
    return folder / "in"


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_folder_survives_a_car_of_any_profile(tmp_path: Path, profile: Profile) -> None:
    source = make_folder(tmp_path)
    out = BytesIO()
    tree = pack(source, out, profile)
    assert tree == name_path(source, profile)
    blocks = list(CarReader(BytesIO(out.getvalue())))
    assert len({cid.digest for cid, _ in blocks}) == len(blocks)
    assert len(out.getvalue()) < len(DATA) + 10_000
    seen: list[int] = []
    found = unpack(
        BytesIO(out.getvalue()), tmp_path / "out", size_max=2 * len(DATA) + 1, progress=seen.append
    )
    assert contents(tmp_path / "out") == contents(source)
    assert found.root == tree.root.dag.root
    assert found.blocks == len(blocks) == len(seen)
    assert name_path(tmp_path / "out", profile) == tree
    assert {file.path: file.size for file in found.files} == {
        "a": len(DATA),
        "sub/same": len(DATA),
        "sub/empty": 0,
        "z\u00e4": 1,
    }


@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 1])
def test_file_survives_a_car(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(DATA[:size])
    out = BytesIO()
    tree = pack(tmp_path / "f", out)
    out.seek(0)
    found = unpack(out, tmp_path / "g", size_max=size)
    assert (tmp_path / "g").read_bytes() == DATA[:size]
    assert found.files[0].root == tree.root.dag.root


def test_export_needs_its_nodes_and_the_right_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    dag, blocks = file_blocks(DATA, UNIXFS_V1_2025)
    nodes = {cid.digest: raw for cid, raw in blocks}
    with (tmp_path / "f").open("rb") as file, pytest.raises(Corrupt, match="node"):
        export_file(CarWriter(BytesIO(), dag.root), dag, file, {}, UNIXFS_V1_2025)
    (tmp_path / "f").write_bytes(DATA[:-1] + b"?")
    with (tmp_path / "f").open("rb") as file, pytest.raises(Corrupt, match="are not what"):
        export_file(CarWriter(BytesIO(), dag.root), dag, file, nodes, UNIXFS_V1_2025)


def test_nothing_is_left_of_a_car_that_does_not_hold(tmp_path: Path) -> None:
    dag, blocks = file_blocks(DATA, LEGACY)
    other, other_blocks = file_blocks(b"other", LEGACY)
    root, root_block = directory_block({"a": dag, "b": other}, version=0)
    raw = car_bytes(root.root, [root_block, *blocks, *other_blocks], version=0)
    missing = car_bytes(root.root, [root_block, *blocks], version=0)
    cases: list[tuple[bytes, int, type[PrsmError]]] = [
        (raw[:-1], GIB, BadCar),
        (raw + b"\1", GIB, BadCar),
        (raw[:-1] + bytes([raw[-1] ^ 1]), GIB, BadCar),
        (missing, GIB, BadDag),
        (raw, len(DATA), Full),
        (b"", GIB, BadCar),
    ]
    for content, size_max, error in cases:
        with pytest.raises(error):
            unpack(BytesIO(content), tmp_path / "out", size_max=size_max)
        assert not list(tmp_path.iterdir())
    unpack(BytesIO(raw), tmp_path / "out", size_max=GIB)
    with pytest.raises(Conflict):
        unpack(BytesIO(raw), tmp_path / "out", size_max=GIB)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_packing_and_unpacking_hold_a_few_blocks(tmp_path: Path) -> None:
    """16 MiB both ways: three buffers, a block or two, no more with a larger file."""
    (tmp_path / "f").write_bytes(Random(9).randbytes(16 * MIB))
    tracemalloc.start()
    try:
        with (tmp_path / "car").open("wb") as out:
            pack(tmp_path / "f", out)
        with (tmp_path / "car").open("rb") as source:
            unpack(source, tmp_path / "g", size_max=GIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()
    assert peak < 10 * MIB
