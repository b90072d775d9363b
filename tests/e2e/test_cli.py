"""`prsm` as a person uses it: from nothing to a paid transfer and a clean stop, real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import prsm

pytestmark = pytest.mark.e2e


class Shell:
    """Runs `prsm --home HOME WORDS` as a process."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prsm.node.cli.main", "--home", str(self.home), *words]
        environ = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environ, timeout=90
        )

    def json(self, *words: str) -> Any:  # noqa: ANN401 - any JSON
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
        return json.loads(done.stdout)

    def send(self, to: str, amount: str) -> Any:  # noqa: ANN401 - any JSON
        """Pay, and look until the transfer is in a block."""
        tx_id = self.json("wallet", "send", to, amount, "--yes")["tx_id"]
        for _ in range(100):
            found = self.json("chain", "tx", tx_id)
            if found["status"] == "committed":
                return found
        raise AssertionError(f"{tx_id} is in no block")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home")
    shell.json("init", "--rpc", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0")
    yield shell
    shell.run("stop")


def test_a_node_of_its_own_starts_pays_and_stops(shell: Shell) -> None:
    started = shell.json("start", "--detach", "--timeout", "60")
    status = shell.json("status")
    assert (status["pid"], status["state"]) == (started["pid"], "ready")
    assert status["wallet_unlocked"] is True
    to = "0x" + "ab" * 32
    assert shell.send(to, "3.25")["ok"] is True
    assert shell.json("wallet", "balance", to)["balance"] == "3250000"
    assert shell.json("rpc", "call", "rpc_getInfo")["chain_id"] == status["chain_id"]
    second = shell.run("start")
    assert (second.returncode, f"process {started['pid']}" in second.stderr) == (2, True)
    unknown = shell.run("model", "show", "nothing")
    assert (unknown.returncode, "PRSM-3001" in unknown.stderr) == (1, True)
    http = started["http"]
    other = Shell(shell.home.parent / "other")
    other.json("init", "--rpc", http, "--listen", "/ip4/127.0.0.1/tcp/0")
    taken = other.run("start")
    assert taken.returncode == 1
    assert f"process {started['pid']}" in taken.stderr
    assert shell.json("stop") == {"stopped": True, "pid": started["pid"]}
    assert shell.run("status").returncode == 3
    assert not (shell.home / "run" / "prsm.sock").exists()


def test_a_restarted_node_keeps_its_state_and_changes_its_token(shell: Shell) -> None:
    shell.json("start", "--detach", "--timeout", "60")
    cookie = (shell.home / "run" / ".cookie").read_bytes()
    to = "0x" + "cd" * 32
    shell.send(to, "1")
    shell.json("stop")
    shell.json("start", "--detach", "--timeout", "60")
    assert (shell.home / "run" / ".cookie").read_bytes() != cookie
    assert shell.json("wallet", "balance", to)["balance"] == "1000000"
