"""`prsm storage cid | export | import` where no node was ever made."""

import json
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from prsm.node.cli.cars import PROFILES
from prsm.node.cli.main import prsm
from prsm.storage.dag import unixfs
from prsm.storage.dag.naming import name_path
from prsm.storage.dag.unixfs import LEGACY

DATA = Random(6).randbytes(2_000_000)
HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"  # of b"hello world"


def run(*words: str | Path, input: bytes | None = None) -> Result:  # noqa: A002 - click's
    command = ["--home", "/nonexistent", *map(str, words)]
    return CliRunner().invoke(prsm, command, input=input)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m" / "a").mkdir(parents=True)
    (tmp_path / "m" / "hello").write_bytes(b"hello world")
    (tmp_path / "m" / "a" / "data").write_bytes(DATA)
    return tmp_path / "m"


def test_profiles_are_all_of_them() -> None:
    assert tuple(unixfs.PROFILES) == PROFILES


def test_cid_is_one_line_and_needs_no_node(folder: Path) -> None:
    assert run("storage", "cid", folder / "hello").stdout == HELLO + "\n"
    assert run("storage", "cid", "-", input=b"hello world").stdout == HELLO + "\n"
    assert run("storage", "cid", folder).stdout == name_path(folder).cid + "\n"
    legacy = run("storage", "cid", folder, "--profile", "legacy")
    assert legacy.stdout == name_path(folder, LEGACY).cid + "\n"


def test_cid_as_a_document_has_all_entries(folder: Path) -> None:
    said = json.loads(run("--json", "storage", "cid", folder).stdout)
    assert said["cid"] == name_path(folder).cid
    assert (said["kind"], said["bytes"]) == ("directory", len(DATA) + 11)
    assert [entry["path"] for entry in said["entries"]] == ["a/data", "a", "hello"]
    assert said["entries"][2]["cid"] == HELLO
    piped = json.loads(run("--json", "storage", "cid", "-", input=DATA).stdout)
    assert piped["cid"] == said["entries"][0]["cid"]


@pytest.mark.parametrize("profile", PROFILES)
def test_folder_goes_into_a_car_and_comes_back(folder: Path, profile: str) -> None:
    car, back = folder.parent / "m.car", folder.parent / "back"
    made = run("--json", "storage", "export", folder, car, "--profile", profile)
    taken = json.loads(run("--json", "storage", "import", car, "--to", back).stdout)
    assert json.loads(made.stdout)["car_bytes"] == car.stat().st_size
    assert taken["bytes"] == len(DATA) + 11
    assert (back / "a" / "data").read_bytes() == DATA
    assert {one["path"] for one in taken["files"]} == {"a/data", "hello"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["back", "m", "m.car"]


def test_nothing_is_overwritten_or_left_behind(folder: Path) -> None:
    car = folder.parent / "m.car"
    run("storage", "export", folder, car)
    again = run("storage", "export", folder, car)
    inside = run("storage", "export", folder, folder / "m.car")
    there = run("storage", "import", car, "--to", folder)
    car.write_bytes(car.read_bytes()[:-1])
    cut = run("storage", "import", car, "--to", folder.parent / "new")
    assert all(one.exit_code and not one.stdout for one in (again, inside, there, cut))
    assert "is there" in again.stderr
    assert "part of" in inside.stderr
    assert "ends" in cut.stderr
    assert sorted(path.name for path in folder.parent.iterdir()) == ["m", "m.car"]


def test_what_has_no_cid_is_an_error_of_three_lines(folder: Path) -> None:
    (folder / "link").symlink_to("hello")
    refused = run("storage", "cid", folder)
    assert refused.exit_code
    assert [line.partition(":")[0] for line in refused.stderr.splitlines()[:3]] == [
        "error",
        "why",
        "try",
    ]
    assert run("storage", "cid", folder / "none").exit_code


def test_a_cid_asks_the_node(folder: Path) -> None:
    """And there is none here."""
    assert run("storage", "export", HELLO, folder.parent / "m.car").exit_code
    car = folder.parent / "m.car"
    run("storage", "export", folder, car)
    assert run("storage", "import", car).exit_code


def test_progress_is_told_as_lines_beside_the_answer(folder: Path) -> None:
    """And never among it."""
    car = folder.parent / "m.car"
    made = run("--progress", "json", "--json", "storage", "export", folder / "a" / "data", car)
    last = json.loads(made.stderr.splitlines()[-1])
    assert (last["state"], last["kind"], last["subject"]) == ("done", "export", "data")
    assert last["done_bytes"] == last["size_bytes"] == 2 * len(DATA)
    assert json.loads(made.stdout)["bytes"] == len(DATA)
    assert not run("storage", "cid", folder).stderr
