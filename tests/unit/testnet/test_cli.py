"""The script `prsm-testnet`: what is a document, and what is not."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from prsm.node.home import Home
from prsm.node.telemetry import logs
from prsm.testnet import cli, launch


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """The log of the test's process as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("kept_logging")
def test_log_lines_of_nodes_in_this_process_are_no_part_of_the_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some trials open a node's parts themselves, which warn (`rejoin`: a log that is gone)."""

    def fake_run(_arguments: list[str]) -> int:
        logs.get("signlog").error("observer")
        sys.stdout.write('{"seconds": 1}\n')
        return 0

    monkeypatch.setattr(cli, "run", fake_run)
    with pytest.raises(SystemExit) as ended:
        cli.entry()
    logs.finish()
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out == '{"seconds": 1}\n'
    assert "observer" in said.err


def test_another_number_of_nodes_than_the_network_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.create(tmp_path / "net", 2)
    assert cli.run(["up", "-n", "3", "--dir", str(tmp_path / "net")]) == 2
    assert "has 2 nodes, not 3" in capsys.readouterr().err


def test_interrupted_up_ends_what_it_began_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it daemons ran on, of which no description knew."""
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(launch.Node, "program", sleeper)
    begun: list[int] = []

    def save(network: launch.Network) -> None:
        begun.extend(node.pid for node in network.nodes if node.pid)

    def interrupted(_node: launch.Node, _deadline: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.Network, "save", save)
    monkeypatch.setattr(launch.Node, "wait_ready", interrupted)
    assert cli.run(["up", "-n", "2", "--dir", str(tmp_path / "net")]) == 130
    assert "what was started is ended again" in capsys.readouterr().err
    assert len(begun) == 2
    for pid in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_up_that_cannot_start_one_node_ends_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No description knew them, and so no `down`."""
    begun: list[launch.Node] = []
    start = launch.Node.start

    def started(node: launch.Node) -> None:
        if begun:
            raise FileNotFoundError(2, "No such file or directory")
        start(node, (sys.executable, "-c", "import time; time.sleep(60)"))
        begun.append(node)

    monkeypatch.setattr(launch.Node, "start", started)
    ended = cli.run(["up", "-n", "2", "--dir", str(tmp_path / "net")])
    assert (ended, "cannot be started" in capsys.readouterr().err) == (2, True)
    assert not begun[0].is_running()


def test_process_that_ends_between_two_looks_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it counted as gone, and stayed a zombie of ours."""
    home = Home(tmp_path)
    home.logs.mkdir()
    node = launch.Node("one", home)
    node.start((sys.executable, "-c", "import time; time.sleep(60)"))
    waitpid = os.waitpid

    def end_after(pid: int, options: int) -> tuple[int, int]:
        found = waitpid(pid, options)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still ours
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "waitpid", end_after)
        assert node.is_running()
    assert not node.is_running()
    with pytest.raises(ProcessLookupError):
        os.kill(node.pid, 0)
