"""A daemon as a process: where its password comes from, and its last words when it cannot start."""

import gc
import os
import weakref
from pathlib import Path

import pytest
import trio

from prsm.node import process
from prsm.node.home import Home, HomeLocked
from prsm.node.process import main, read_password
from prsm.node.rpc.errors import PortTaken
from prsm.node.rpc.reasons import Exit
from prsm.protocol.errors import LocalError


def test_password_comes_from_a_descriptor() -> None:
    """The first line, without its end; the descriptor is closed."""
    read, write = os.pipe()
    os.write(write, "pässword\nmore".encode())
    os.close(write)
    assert read_password(read, None) == "pässword"
    with pytest.raises(OSError, match="Bad file"):
        os.close(read)


def test_password_comes_from_a_private_file(tmp_path: Path) -> None:
    """0600 passes; a mode open to others is refused with the command that mends it."""
    path = tmp_path / "password"
    path.write_text("secret words\n")
    path.chmod(0o600)
    assert read_password(None, path) == "secret words"
    path.chmod(0o644)
    with pytest.raises(LocalError, match="0644") as refused:
        read_password(None, path)
    assert "chmod 600" in refused.value.hint


def test_no_password_leaves_the_wallet_locked() -> None:
    """Neither descriptor nor file."""
    assert read_password(None, None) is None


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unreadable_password_is_a_typed_error(tmp_path: Path, content: bytes | None) -> None:
    """No such file, or no text in it."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LocalError, match="cannot be read"):
        read_password(None, path)


def test_closed_descriptor_is_a_typed_error() -> None:
    """`--password-fd 99` without 99 open."""
    with pytest.raises(LocalError, match="--password-fd 999"):
        read_password(999, None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    made.config.write_text("")
    return made


def run(home: Home, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["--home", str(home.root)])
    return code, capsys.readouterr().err.splitlines()


def test_missing_home_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What, why, what to type, the number; a usage error."""
    code, lines = run(Home(tmp_path / "nothing"), capsys)
    assert code == Exit.USAGE
    assert "holds no node" in lines[0]
    assert "prsm init" in lines[2]
    assert lines[3] == "PRSM-6002"


def test_locked_home_names_the_process(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Another process has it: its pid is in the first line."""
    with home.hold():
        code, lines = run(home, capsys)
    assert code == Exit.FAILED
    assert f"in use by process {os.getpid()}" in lines[0]
    assert lines[3] == "PRSM-6004"


def test_unknown_config_key_is_said(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest known one."""
    home.config.write_text("[rpc]\nlisten_on = 1\n")
    code, lines = run(home, capsys)
    assert code == Exit.USAGE
    assert "listen" in " ".join(lines)


@pytest.mark.parametrize(
    "error",
    [
        HomeLocked("in use"),
        ExceptionGroup("floors", [ExceptionGroup("inner", [HomeLocked("in use")])]),
        ExceptionGroup("two", [HomeLocked("in use"), PortTaken("taken")]),
    ],
)
def test_typed_errors_in_groups_are_said(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    """Nurseries wrap what a start raises; a person sees the first of it."""

    def fail(_start: object) -> None:
        raise error

    monkeypatch.setattr(trio, "run", fail)
    code, lines = run(home, capsys)
    assert (code, lines[0]) == (Exit.FAILED, "prsm: in use")


@pytest.mark.parametrize(
    "error", [ValueError("x"), ExceptionGroup("mixed", [HomeLocked("in use"), ValueError("x")])]
)
def test_fault_of_ours_is_not_hidden(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An untyped error ends the process with its traceback."""

    def fail(_start: object) -> None:
        raise error

    monkeypatch.setattr(trio, "run", fail)
    with pytest.raises(type(error)):
        main(["--home", str(home.root)])


def test_interrupt_while_starting_is_an_exit_code(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the daemon listens to signals: 130, no traceback."""

    def interrupt(_start: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupt)
    assert main(["--home", str(home.root)]) == Exit.INTERRUPTED


class Life:
    """What a daemon holds while it runs, in a cycle as a driver and its rooms are."""

    def __init__(self) -> None:
        self.itself = self


def test_life_before_a_mended_disk_is_given_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon freezes what it holds once it is up; begun anew, it held every ledger it had had."""
    lives: list[weakref.ref[Life]] = []
    left: list[int] = []

    async def run_daemon(_start: object) -> bool:
        left.append(sum(life() is not None for life in lives))
        life = Life()
        lives.append(weakref.ref(life))
        gc.freeze()
        await trio.lowlevel.checkpoint()
        return len(lives) < 3

    monkeypatch.setattr(process, "run_daemon", run_daemon)
    try:
        assert main(["--home", str(home.root)]) == Exit.DONE
    finally:
        gc.unfreeze()
    assert left == [0, 0, 0]
