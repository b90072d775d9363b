"""destroy: what goes, what stays, what was cut off, and who begins meanwhile."""

import errno
import fcntl
import json
import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from prsm.node.cli import lifecycle
from prsm.node.cli.parts import parts
from prsm.node.holder import DESTROY
from prsm.node.home import Home, HomeLocked
from tests.unit.node.cli.test_care import born, run

__all__ = ["born"]


def test_destroy_says_what_goes_and_wants_the_name(born: Path) -> None:
    shown = json.loads(run(born, "destroy", "--dry-run", "--json").stdout)
    assert (shown["name"], shown["deleted"]) == ("node", False)
    assert {"keys"} <= {row["kind"] for row in shown["items"]}
    assert run(born, "destroy", "--yes").exit_code == 2  # --yes does not answer for keys
    assert run(born, "destroy", "--confirm", "nod").exit_code == 2
    with Home(born).hold():
        held = run(born, "destroy", "--confirm", "node")
        assert (held.exit_code, "prsm stop" in held.stderr) == (1, True)
    assert born.exists()
    kept = run(born, "destroy", "--keep-keys", "--yes")
    assert kept.exit_code == 0, kept.stderr
    assert [path.name for path in born.iterdir()] == ["keys"]


def test_destroy_leaves_nothing_and_follows_no_link(born: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (born / "blocks" / "link").symlink_to(outside)
    assert run(born, "destroy", "--confirm", "node").exit_code == 0
    assert not born.exists()
    assert (outside / "kept").exists()


def test_destroy_deletes_what_it_lists_and_leaves_what_no_node_made(
    born: Path, tmp_path: Path
) -> None:
    (born / "thesis.txt").write_text("precious")
    linked = tmp_path / "linked"
    linked.symlink_to(born)
    shown = json.loads(run(linked, "destroy", "--dry-run", "--json").stdout)
    assert shown["left"] == [str(born / "thesis.txt")]
    kinds = {row["kind"] for row in shown["items"]}
    assert kinds == {path.name for path in parts(Home(born))} >= {"VERSION", "config.toml", "keys"}
    gone = run(linked, "destroy", "--confirm", "node")
    assert (gone.exit_code, "thesis.txt is no part of a node and stays" in gone.stderr) == (0, True)
    assert [path.name for path in born.iterdir()] == ["thesis.txt"]


def test_destroy_that_was_cut_off_is_typed_again(
    born: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "ledger.db"))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        cut = run(born, "destroy", "--confirm", "node")
    assert (cut.exit_code, "ledger.db cannot be deleted" in cut.stderr) == (2, True)
    late = ["keys", "config.toml", "VERSION"]
    assert [path.name for path in parts(Home(born))][-3:] == late
    assert run(born, "destroy", "--confirm", "node").exit_code == 0
    assert not born.exists()


def test_destroy_that_was_cut_off_knows_the_name_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is in config.toml, which goes late: the same line is typed again."""
    home = tmp_path / "home"
    assert run(home, "init", "--name", "lab-1").exit_code == 0
    (home / "data" / "ledger.db").touch()

    def stop(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        assert run(home, "destroy", "--confirm", "lab-1").exit_code == 130
    again = run(home, "destroy", "--confirm", "lab-1")
    assert (again.exit_code, home.exists()) == (0, False), again.stderr


@pytest.mark.parametrize("is_gone", [False, True])
def test_destroy_that_was_cut_off_at_the_keys_knows_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    """Of a stick that is mounted as keys/ the content goes, and the folder does not; or all did."""
    home, delete = tmp_path / "home", shutil.rmtree
    assert run(home, "init", "--name", "lab-1").exit_code == 0

    def stop(path: Path) -> None:
        if path != home / "keys" or is_gone:
            delete(path)
        if path == home / "keys":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        cut = run(home, "destroy", "--confirm", "lab-1")
    assert (cut.exit_code, "keys cannot be deleted" in cut.stderr) == (2, True)
    again = run(home, "destroy", "--confirm", "lab-1")
    assert (again.exit_code, home.exists()) == (0, False), again.stderr


def test_destroy_says_that_what_a_link_leads_to_stays(born: Path, tmp_path: Path) -> None:
    """Blocks on another disk, keys on a stick: only the link is of the folder."""
    for name in ("blocks", "models"):
        (tmp_path / name).mkdir()
        (born / name).rmdir()
        (born / name).symlink_to(tmp_path / name)
    (tmp_path / "blocks" / "leaf").write_text("precious")
    shown = json.loads(run(born, "destroy", "--dry-run", "--json").stdout)
    assert shown["left"] == [str(tmp_path / "blocks")]
    [row] = [row for row in shown["items"] if row["kind"] == "blocks"]
    assert row["bytes"] == (born / "blocks").lstat().st_size
    gone = run(born, "destroy", "--confirm", "node")
    assert f"{tmp_path / 'blocks'} is where a link led and stays" in gone.stderr
    assert (born.exists(), (tmp_path / "blocks" / "leaf").exists()) == (False, True)


def test_destroy_deletes_nothing_under_a_node_that_began_while_it_asked(
    born: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service manager starts it again whenever it likes."""
    before = sorted(born.rglob("*"))
    with ExitStack() as running:

        def ask(*_given: object, **_named: object) -> None:
            running.enter_context(Home(born).hold())

        monkeypatch.setattr(lifecycle, "_ask_to_destroy", ask)
        refused = run(born, "destroy", "--confirm", "node")
    assert (refused.exit_code, "runs the node in" in refused.stderr) == (1, True)
    assert set(before) <= set(born.rglob("*"))


@pytest.mark.parametrize("has_run", [True, False])
def test_no_node_begins_in_a_folder_that_is_being_destroyed(
    born: Path, monkeypatch: pytest.MonkeyPatch, *, has_run: bool
) -> None:
    """Blocks alone may take minutes; a service manager tries every few seconds."""
    if has_run:
        with Home(born).hold():
            pass
    (born / "blocks" / "leaf").touch()
    (born / "labs" / "lab1" / "run").mkdir(parents=True)
    (born / "labs" / "lab1" / "VERSION").touch()
    delete = shutil.rmtree
    tried: list[Path] = []

    def begin(path: Path) -> None:
        for root in (born, born / "labs" / "lab1"):
            if path == born / "blocks":
                locked = pytest.raises(HomeLocked, match=r"\(prsm destroy\)")
                with locked, Home(root).hold():
                    pass
                tried.append(root)
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", begin)
    gone = run(born, "destroy", "--confirm", "node")
    assert (gone.exit_code, born.exists(), len(tried)) == (0, False, 2), gone.stderr


def test_folder_in_which_no_lock_can_be_had_is_destroyed(
    born: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a file system without such locks; what the lock says is of who held it last."""
    with Home(born).hold():
        pass

    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: ended.append(pid))
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "no node runs in" in run(born, "--timeout", "1", "stop").stderr
    assert ended == []
    gone = run(born, "destroy", "--confirm", "node")
    assert (gone.exit_code, born.exists()) == (0, False), gone.stderr


def test_destroy_by_a_link_removes_the_link_too(born: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.symlink_to(born)
    assert run(linked, "destroy", "--confirm", "node").exit_code == 0
    assert not born.exists()
    assert not linked.is_symlink()


@pytest.mark.parametrize("words", ["stop", "restart", "start", "destroy --confirm node", "status"])
def test_who_destroys_a_folder_is_not_ended_as_its_node(
    born: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """It has the lock, as a node does: `stop` cut it off, and `restart` began in what was left."""
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: ended.append(pid))
    with Home(born).hold(DESTROY):
        refused = run(born, "--timeout", "1", *words.split())
    assert (refused.exit_code != 0, ended) == (True, [])
    told = f"in use by process {os.getpid()} (prsm destroy)" in refused.stderr
    assert (told, "prsm stop" in refused.stderr) == (words != "status", False)
    assert "is starting" not in refused.stderr


def test_labs_that_are_being_destroyed_are_not_ended_as_nodes(
    born: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: ended.append(pid))
    lab = Home(born / "labs" / "lab1")
    lab.create()
    with lab.hold(DESTROY):
        assert "(prsm destroy)" in run(born, "--timeout", "1", "stop").stderr
    assert ended == []


@pytest.mark.parametrize("words", ["chain export away", "doctor", "config set net.max_peers 71"])
def test_what_has_a_folder_and_is_no_node_is_not_spoken_of_as_one(
    born: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Who is told to stop the node, to start it, or that it takes something, tries it in vain."""
    monkeypatch.chdir(tmp_path)
    with Home(born).hold("prsm backup"):
        told = run(born, "--timeout", "1", *words.split())
    said = told.stdout + told.stderr
    assert not {"stop", "start", "restart"}.intersection(re.findall(r"prsm (\w+)", said)), said
    assert ("(prsm backup)" in said) == (words.split(maxsplit=1)[0] != "config")
