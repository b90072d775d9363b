"""`prsm storage split | join`: a file survives the loss of any shards but k."""

import json
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from prsm.node.cli.main import prsm
from prsm.storage.dag.naming import name_path

pytest.importorskip("zfec")
DATA = Random(5).randbytes(2_500_000)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(prsm, ["--home", "/nonexistent", "--json", *map(str, words)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two of four shards give the file back."""
    (tmp_path / "f").write_bytes(DATA)
    said = json.loads(
        run("storage", "split", tmp_path / "f", tmp_path / "s", "--code", "2/4").stdout
    )
    assert said["cid"] == name_path(tmp_path / "f").cid
    assert said["shards"][3] == name_path(tmp_path / "s" / "shard-3").cid
    assert (said["needed"], said["bytes"], len(said["shards"])) == (2, len(DATA), 4)
    return tmp_path / "s"


def test_file_comes_back_from_any_two(folder: Path, tmp_path: Path) -> None:
    (folder / "shard-0").unlink()
    (folder / "shard-2").write_bytes(b"damaged")
    said = json.loads(run("storage", "join", folder, tmp_path / "back").stdout)
    assert (said["used"], said["damaged"]) == ([1, 3], [2])
    assert (tmp_path / "back").read_bytes() == DATA
    assert run("storage", "join", folder, tmp_path / "back").exit_code  # it is there


def test_lost_shards_are_written_again(folder: Path) -> None:
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "shard-0").unlink()
    (folder / "shard-3").write_bytes(b"damaged")
    assert json.loads(run("storage", "join", folder).stdout)["written"] == [0, 3]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert json.loads(run("storage", "join", folder).stdout)["written"] == []


def test_too_few_shards_are_named(folder: Path, tmp_path: Path) -> None:
    for place in (0, 1, 3):
        (folder / f"shard-{place}").unlink()
    refused = run("storage", "join", folder, tmp_path / "back")
    assert refused.exit_code
    assert "PRSM-5071" in refused.stderr
    assert not (tmp_path / "back").exists()


def test_refused_split_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for words in (
        ("empty", "out"),
        ("empty", "out", "--code", "6/4"),
        ("empty", "out", "--code", "4"),
    ):
        file, out, *rest = words
        assert run("storage", "split", tmp_path / file, tmp_path / out, *rest).exit_code
        assert not (tmp_path / "out").exists()
