"""config get, set, unset, diff, migrate, edit: comments stay, nothing wrong is ever written."""

import fcntl
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from prsm.node.cli import settings
from prsm.node.cli.main import prsm
from prsm.node.config import load
from prsm.node.home import write_private
from tests.tools.served import Served

TEXT = '# of the lab\n[log]\nlevel = "debug" # for now\n\n[net]\nmax_peers = 70\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("keys", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "VERSION").write_text("1\n", encoding="ascii")
    (tmp_path / "config.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(prsm, ["--home", str(home), "config", *words])


def answer(home: Path, *words: str) -> Any:  # noqa: ANN401 - any JSON
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_get_says_the_value_alone_or_all_about_it(home: Path) -> None:
    assert run(home, "get", "log.level").stdout == "debug\n"
    assert run(home, "get", "net.mdns").stdout == "false\n"
    row = answer(home, "get", "net.max_peers")
    assert (row["value"], row["origin"]) == (70, "file")
    refused = run(home, "get", "net.max_pears")
    assert (refused.exit_code, "did you mean 'net.max_peers'?" in refused.stderr) == (2, True)


def test_origin_names_the_file_the_variable_or_the_profile(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = home / "machine.toml"
    machine.write_text('[log]\nkeep = 9\nlevel = "error"\n[node]\nprofile = "light"\n')
    monkeypatch.setenv("PRSM_SYSTEM_CONFIG", str(machine))
    monkeypatch.setenv("PRSM_NODE__NAME", "mine")
    rows = {row["key"]: row for row in answer(home, "show", "--origin")["items"]}
    told = {key: (row["origin"], row["named"]) for key, row in rows.items()}
    assert told["log.keep"] == ("system", str(machine))
    assert told["log.level"] == ("file", str(home / "config.toml"))
    assert told["node.name"] == ("env", "PRSM_NODE__NAME")
    assert told["executor.enabled"] == ("profile", "light")
    assert told["net.mdns"] == ("default", "")
    assert str(machine) in run(home, "show", "--origin").stdout
    assert answer(home, "validate")["system"] == str(machine)
    assert answer(home, "set", "log.keep", "8")["was"] == 9
    assert answer(home, "unset", "log.keep")["value"] == 9
    machine.write_text("[log]\nkeeps = 9\n")
    refused = run(home, "show")
    assert refused.exit_code == 2
    assert f"unknown key 'log.keeps' (in {machine})" in refused.stderr
    assert run(home.parent, "show").stderr.splitlines()[0] == refused.stderr.splitlines()[0]


def test_set_keeps_comments_order_and_types(home: Path) -> None:
    row = answer(home, "set", "net.max_peers", "90")
    assert (row["value"], row["was"], row["written"]) == (90, 70, True)
    assert (home / "config.toml").read_text() == TEXT.replace("70", "90")
    assert (home / "config.toml").stat().st_mode & 0o777 == 0o600
    peers = "http://127.0.0.1:1, http://127.0.0.1:2"
    answer(home, "set", "storage.ipfs_rpc", peers)
    assert load(home / "config.toml").config.storage.ipfs_rpc == tuple(peers.split(", "))
    answer(home, "unset", "storage.ipfs_rpc")
    assert load(home / "config.toml").config.storage.ipfs_rpc == ()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("log.level", "loud", "log.level is 'loud'"),
        ("net.max_peers", "many", "net.max_peers is 'many'"),
        ("net.max_peers", "3", "net.outbound is 8 and net.max_peers 3"),
        ("log.levle", "info", "log.levle"),
    ],
)
def test_set_writes_nothing_that_would_be_refused(
    home: Path, key: str, value: str, says: str
) -> None:
    refused = run(home, "set", key, value)
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert (home / "config.toml").read_text() == TEXT


def test_set_can_be_tried(home: Path) -> None:
    tried = answer(home, "set", "net.max_peers", "90", "--dry-run")
    assert (tried["written"], tried["value"], tried["was"]) == (False, 90, 70)
    assert (home / "config.toml").read_text() == TEXT


def test_set_says_that_the_environment_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRSM_LOG__LEVEL", "error")
    result = run(home, "set", "log.level", "info")
    assert "PRSM_LOG__LEVEL" in result.stderr


def test_diff_shows_what_is_not_default_and_what_the_node_has(served: Served) -> None:
    home = served.home
    (home / "config.toml").write_text("[log]\nlevel = 'debug'\n", encoding="utf-8")
    rows = {row["key"]: row for row in answer(home, "diff")["items"]}
    assert (rows["log.level"]["value"], rows["log.level"]["default"]) == ("debug", "info")
    assert set(rows) == {"log.level"}


def test_diff_of_a_node_that_has_what_is_configured_shows_that_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's values are JSON, which has lists where the configuration has tuples."""
    config: dict[str, dict[str, Any]] = json.loads(
        msgspec.json.encode(load(home / "config.toml").config)
    )
    running = {f"{name}.{key}": one for name, table in config.items() for key, one in table.items()}
    monkeypatch.setattr(settings, "_running", lambda _session: running)
    shown = run(home, "diff", "--json")
    assert {row["key"] for row in json.loads(shown.stdout)["items"]} == {
        "log.level",
        "net.max_peers",
    }
    assert "restart" not in shown.stderr


def test_migrate_renames_retires_and_keeps_the_old_file(home: Path) -> None:
    old = TEXT + "\n[executor]\nthreads = 2\nenabled = false\n\n[gone]\nkey = 1\n"
    (home / "config.toml").write_text(old, encoding="utf-8")
    refused = run(home, "validate")
    assert "prsm config migrate" in refused.stderr
    assert answer(home, "migrate", "--dry-run")["written"] is False
    assert (home / "config.toml").read_text() == old
    done = answer(home, "migrate")
    assert {row["key"] for row in done["items"]} == {"executor.threads", "gone.key"}
    assert (home / "config.toml.before").read_text() == old
    config = load(home / "config.toml").config
    assert (config.executor.enabled, config.net.max_peers) == (False, 70)
    assert "threads = 2" in (home / "config.toml").read_text()
    assert answer(home, "migrate")["items"] == []


def test_edit_takes_only_what_is_accepted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = home / "editor.py"
    editor.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[2])\n"
        "p.write_text(p.read_text().replace('70', sys.argv[1]))\n",
        encoding="ascii",
    )
    monkeypatch.setenv("EDITOR", f"python3 {editor} 11")
    assert run(home, "edit").exit_code == 2  # nobody sits there
    assert run(home, "edit", "--yes").exit_code == 0
    assert load(home / "config.toml").config.net.max_peers == 11
    monkeypatch.setenv("EDITOR", f"python3 {editor} x")
    (home / "config.toml").write_text(TEXT, encoding="utf-8")
    refused = run(home, "edit", "--yes")
    assert refused.exit_code == 2
    assert "your text is kept" in refused.stderr
    assert (home / "config.toml").read_text() == TEXT
    assert os.path.exists(home / "config.toml.edited")  # noqa: PTH110 - one look
    monkeypatch.setenv("EDITOR", "sed -i 's/= x/= 12/'")  # the text of last time, not the file's
    again = run(home, "edit", "--yes")
    assert (again.exit_code, "goes on with your text" in again.stderr) == (0, True)
    assert load(home / "config.toml").config.net.max_peers == 12


def test_edit_does_not_undo_what_was_set_since_a_text_was_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sed -i 's/= 70/= x/'")
    assert run(home, "edit", "--yes").exit_code == 2
    later = (home / "config.toml.edited").stat().st_mtime_ns + 1
    answer(home, "set", "log.level", "error")
    os.utime(home / "config.toml", ns=(later, later))
    monkeypatch.setenv("EDITOR", "sed -i 's/= x/= 12/'")
    refused = run(home, "edit", "--yes")
    assert (refused.exit_code, "has changed since" in refused.stderr) == (2, True)
    assert load(home / "config.toml").config.log.level == "error"
    (home / "config.toml.edited").unlink()
    assert run(home, "edit", "--yes").exit_code == 0


def test_edit_does_not_undo_what_was_set_while_it_was_open(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody else, or in another window: neither at once nor the next time."""
    path = home / "config.toml"
    edit = subprocess.run

    def slow(words: Sequence[str], **how: Any) -> object:  # noqa: ANN401 - passed on
        answer(home, "set", "log.level", "error")
        return edit(words, **how)

    monkeypatch.setenv("EDITOR", "sed -i 's/= 70/= 12/'")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", slow)
        refused = run(home, "edit", "--yes")
    assert (refused.exit_code, "has changed since" in refused.stderr) == (2, True)
    again = run(home, "edit", "--yes")
    assert again.exit_code == 2, again.stderr
    assert load(path).config.log.level == "error"


def test_edit_in_vain_leaves_no_text_of_which_nothing_is_the_persons(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stand in the way of the next one, being older than what was set meanwhile."""
    other = f"sh -c 'echo >> {home / 'config.toml'}' edit"  # somebody else; the person nothing
    monkeypatch.setenv("EDITOR", other)
    seen = run(home, "edit", "--yes", "--json")
    assert (seen.exit_code, '"changed":false' in seen.stdout) == (0, True), seen.stderr
    assert (home / "config.toml").read_text() == TEXT + "\n"
    assert not (home / "config.toml.edited").exists()


def test_edit_makes_no_file_anew_that_went_while_it_was_open(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all the folder, or alone."""
    path = home / "config.toml"
    monkeypatch.setenv("EDITOR", f"sh -c 'rm {path}; echo >> {path}.edited' edit")
    gone = run(home, "edit", "--yes")
    assert (gone.exit_code, "has changed since" in gone.stderr) == (2, True), gone.stderr
    assert not path.exists()


@pytest.mark.parametrize("also", ["", "/config.toml"])
def test_edit_whose_text_went_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, also: str
) -> None:
    """An empty text is an accepted one: all that was set would be by default."""
    monkeypatch.setenv("EDITOR", f"rm {home}{also}" if also else "rm")
    gone = run(home, "edit", "--yes")
    assert (gone.exit_code, "config.toml.edited is gone" in gone.stderr) == (2, True), gone.stderr
    assert (home / "config.toml").exists() is not bool(also)
    assert also or (home / "config.toml").read_text() == TEXT


@pytest.mark.parametrize(
    "words",
    [("set", "net.max_peers", "71"), ("unset", "log.level"), ("migrate",), ("edit", "--yes")],
)
def test_change_that_is_under_way_is_not_written_over_by_another(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Of two that read the file at once the later one wrote it as if the earlier were not."""
    if words[0] == "migrate":
        (home / "config.toml").write_text(TEXT + "\n[gone]\nkey = 1\n", encoding="utf-8")
    read, write = settings._raw, write_private
    told: list[tuple[str, str, bool]] = []

    def look(what: str, path: Path) -> None:
        folder = os.open(home, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told.append((what, path.name, True))
        else:
            told.append((what, path.name, False))
        finally:
            os.close(folder)

    def reading(path: Path) -> str:
        look("read", path)
        return read(path)

    def writing(path: Path, raw: bytes) -> None:
        look("write", path)
        write(path, raw)

    monkeypatch.setattr(settings, "_raw", reading)
    monkeypatch.setattr(settings, "write_private", writing)
    monkeypatch.setenv("EDITOR", "sed -i 's/= 70/= 12/'")
    assert run(home, *words).exit_code == 0
    last = [is_held for _, name, is_held in told if name == "config.toml"][-2:]
    assert (told[-1][:2], last) == (("write", "config.toml"), [True, True])


def test_set_of_a_section_that_is_none_says_so(home: Path) -> None:
    (home / "config.toml").write_text("log = 3\n", encoding="utf-8")
    refused = run(home, "set", "log.level", "info")
    assert (refused.exit_code, "'log' outside a section" in refused.stderr) == (2, True)


@pytest.mark.parametrize("editor", ["no-such-editor", "'unbalanced"])
def test_edit_without_an_editor_that_starts_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, editor: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    refused = run(home, "edit", "--yes")
    assert (refused.exit_code, "cannot be started" in refused.stderr) == (2, True)
    assert not (home / "config.toml.edited").exists()


def test_migrate_of_what_is_no_toml_says_so(home: Path) -> None:
    (home / "config.toml").write_text("[log\nlevel =", encoding="utf-8")
    refused = run(home, "migrate")
    assert (refused.exit_code, "is no TOML" in refused.stderr) == (2, True)
    assert "prsm config edit" in refused.stderr
