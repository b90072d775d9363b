"""start --detach whose daemon does not come up, or whose person does not wait for it."""

import json
import subprocess
from pathlib import Path

import pytest

from prsm.node.cli import running
from tests.unit.node.cli.test_lifecycle import born, run

__all__ = ["born"]
pytestmark = pytest.mark.slow


def test_it_ends_as_the_daemon_did(
    born: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a script a wrong password is no failed start, but somebody who may not."""
    (tmp_path / "refusing.py").write_text(
        "print('it does not open', 'why', 'try', 'PRSM-5010', sep='\\n')\nraise SystemExit(4)\n",
        encoding="ascii",
    )
    monkeypatch.setattr(running, "DAEMON", "refusing")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run(born, "start", "--detach", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["error"]["data"]["reason"] == "wrong_password"
    assert "it does not open" in result.stderr


def test_interrupt_says_that_the_node_goes_on(born: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_session: object, child: "subprocess.Popen[bytes]") -> None:
        child.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "DAEMON", "this")  # which prints a poem and ends
    monkeypatch.setattr(running, "_wait_started", interrupted)
    result = run(born, "start", "--detach")
    assert result.exit_code == 130
    assert f"goes on: prsm status --home {born}" in result.stderr
    assert f"prsm stop --home {born}" in result.stderr
    assert "stopped" not in result.stderr
