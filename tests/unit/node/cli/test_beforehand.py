"""What is refused before anything is asked, ended, bought or made."""

import os
import socket
from pathlib import Path

import pytest

from tests.unit.node.cli.test_lifecycle import born, held, run

__all__ = ["born"]


@pytest.mark.slow
def test_restart_reads_everything_before_it_ends_anything(born: Path) -> None:
    """A slip of the finger must not leave the node down."""
    with held(born) as holder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (
            ("--set", "log.level=nonsense"),
            ("--set", "nokey"),
            ("--unlock",),  # there is no terminal to ask at
            ("--password-file", str(born / "absent")),
            ("--set", f"rpc.listen=127.0.0.1:{port}"),  # somebody else's
            ("--set", "keys.password_file=keys/absent"),
        ):
            assert run(born, "restart", *words).exit_code != 0
            assert holder.poll() is None, words
        with (born / "config.toml").open("a") as config:
            config.write("foo = ")
        assert run(born, "restart").exit_code != 0
        assert holder.poll() is None
        holder.terminate()


def test_stop_and_restart_end_no_process_for_another_node(
    born: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--node and PRSM_NODE name a node elsewhere; the folder here is not its."""
    elsewhere = "http://127.0.0.1:1"
    for word in ("stop", "restart"):
        for result in (run(born, "--node", elsewhere, word), None):
            monkeypatch.setenv("PRSM_NODE", elsewhere)
            refused = result or run(born, word)
            monkeypatch.delenv("PRSM_NODE")
            assert (refused.exit_code, elsewhere in refused.stderr) == (2, True)


def test_node_of_the_environment_is_one_that_was_named(
    born: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocks are exported, or nothing: not those of the folder here."""
    monkeypatch.setenv("PRSM_NODE", "http://127.0.0.1:1")
    result = run(born, "chain", "export", str(tmp_path / "blocks.car"))
    assert (result.exit_code, (tmp_path / "blocks.car").exists()) == (3, False)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "encoder", "text", "--proof"),
        ("job", "wait", "0x00", "--proof"),
        ("proof", "show", "0x00", "--output"),
        ("token", "new", "mine", "--out"),
        ("wallet", "export", "default"),
        ("chain", "export"),
        ("backup",),
        ("debug", "bundle"),
    ],
)
def test_file_that_cannot_be_written_is_said_before_anything_is_asked(
    born: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """No node runs here: a command that asked it first would end as unreachable."""
    result = run(born, *words, str(tmp_path / "absent" / "file"))
    assert (result.exit_code, "absent is no folder" in result.stderr) == (2, True)


def test_home_folder_of_nobody_is_a_slip_of_the_finger(born: Path) -> None:
    result = run(born, "net", "new-key", "~nobody-of-this-name/key")
    assert (result.exit_code, "nobody here has" in result.stderr) == (2, True)


def test_file_to_write_that_is_no_file_is_refused(born: Path, tmp_path: Path) -> None:
    """Written whole and renamed, a file would take the place of a device."""
    os.mkfifo(tmp_path / "pipe")
    for named in (str(tmp_path / "pipe"), "/dev/null", "/dev/fd/1", "x" * 250):
        result = run(born, "run", "encoder", "text", "--proof", named)
        assert (result.exit_code, "--proof" in result.stderr) == (2, True), named
