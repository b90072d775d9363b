"""A model's whole life on two real daemons, as a person types it: add, pull, check, keep, delete.

And offline: what is here opens, what is gone is refused with its size.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import prsm
from prsm.node.worker.recipes.decoder import Config, write
from prsm.testnet import launch

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@dataclass(frozen=True)
class Shell:
    """`prsm` on one home."""

    home: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prsm.node.cli.main", "--home", str(self.home), *words]
        environ = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environ, timeout=120
        )

    def json(self, *words: str) -> Any:  # noqa: ANN401 - any JSON
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *words: str) -> tuple[int, str]:
        """Exit code and reason."""
        done = self.run(*words, "--json")
        return done.returncode, json.loads(done.stdout)["error"]["data"]["reason"]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[launch.Network]:
    made = launch.create(tmp_path / "net", 2)
    try:
        made.start()
        yield made
    finally:
        Shell(made.nodes[1].home.root).run("stop")  # the test starts it once more by itself
        made.stop()


def test_a_model_is_added_pulled_checked_kept_deleted_and_missed(
    network: launch.Network, tmp_path: Path
) -> None:
    first, second = (Shell(node.home.root) for node in network.nodes)
    model, tokenizer = write(tmp_path / "model", Config(layers=1))
    added = first.json(
        *("model", "add", str(model), "--name", "encoder", "--tokenizer", str(tokenizer))
    )
    assert (added["state"], added["registered"]) == ("held", True)

    pulled = second.run("model", "pull", added["cid"], "--progress", "json", "--json")
    assert pulled.returncode == 0, pulled.stderr
    told = [json.loads(line) for line in pulled.stderr.splitlines() if line.startswith("{")]
    assert told[-1]["state"] == "done"
    assert told[-1]["done_bytes"] == told[-1]["size_bytes"] == added["size_bytes"]
    assert json.loads(pulled.stdout)["state"] == "held"
    assert second.json("model", "verify", added["cid"])["ok"] is True

    assert second.json("model", "pin", added["cid"], "--name", "mine")["state"] == "held"
    plan = second.json("model", "gc", "--dry-run")
    assert not [row for row in plan["items"] if row["goes"]]
    assert second.refused("model", "rm", added["cid"], "--yes") == (1, "conflict")
    assert second.json("model", "unpin", added["cid"], "--name", "mine")["left"] == []

    assert second.json("stop")["stopped"] is True
    second.json("start", "--detach", "--offline", "--timeout", "60")
    status = second.json("status")
    assert (status["offline"], status["stale"]) == (True, True)
    opened = second.json("model", "open", added["cid"])
    assert all(Path(row["file"]).stat().st_size == row["size_bytes"] for row in opened["items"])
    assert second.json("model", "rm", added["cid"], "--yes")["freed_bytes"] == added["size_bytes"]
    assert second.refused("model", "pull", added["cid"]) == (3, "offline")
    assert second.json("model", "ls")["items"] == []
    assert first.json("model", "ls")["items"][0]["state"] == "held"
