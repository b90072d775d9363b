"""The command line and a network: a node that joins later, and one of another network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
PRSM = str(Path(sys.executable).with_name("prsm"))


def prsm(*words: str, code: int = 0) -> dict[str, object]:
    """Run `prsm … --json`; stdout must be exactly one JSON document."""
    command = [PRSM, *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def address_of(home: str) -> str:
    addresses = prsm("--home", home, "status")["addresses"]
    assert isinstance(addresses, list)
    return str(addresses[0])


def test_node_that_starts_later_joins_with_genesis_and_one_address(tmp_path: Path) -> None:
    """A network of three; a fourth home is made from the genesis file, starts, and catches up."""
    net, late = str(tmp_path / "net"), str(tmp_path / "late")
    first = f"{net}/node1"
    prsm("testnet", "up", "-n", "3", "--dir", net)
    try:
        sent = prsm("--home", first, "wallet", "send", "0x" + "11" * 32, "2.5", "--yes")
        password = tmp_path / "password"
        password.write_text("late\n")
        password.chmod(0o600)
        made = prsm(
            *("init", "--home", late, "--genesis", f"{net}/genesis.json"),
            *("--bootstrap", address_of(first), "--listen", "/ip4/127.0.0.1/tcp/0"),
            *("--rpc", "127.0.0.1:0", "--password-file", str(password)),
        )
        assert made["validator"] is False
        prsm("start", "--home", late, "--detach", "--password-file", str(password))
        try:
            tx = prsm("--home", first, "chain", "tx", str(sent["tx_id"]))
            assert tx["status"] == "committed"
            here: dict[str, object] = {"height": -1}
            there: dict[str, object] = {"height": 0}
            for _ in range(50):  # each call takes a moment; the follower is a block behind
                there = prsm("--home", first, "chain", "status")
                here = prsm("--home", late, "chain", "status")
                if here["height"] == there["height"]:
                    break
            assert here["state_root"] == there["state_root"]
            assert here["height"] == there["height"] != 0
        finally:
            prsm("stop", "--home", late)
        shown = prsm("testnet", "status", "--dir", net)
        agreement = shown["agreement"]
        assert isinstance(agreement, dict)
        assert agreement["same_state_root"] is True
        assert agreement["supply_conserved"] is True
    finally:
        stopped = prsm("testnet", "down", "--dir", net)
    assert stopped == {"stopped": 3, "graceful": True}


def test_wrong_genesis_is_refused_by_name(tmp_path: Path) -> None:
    """A node of another network is told so by the peer it dials, and stays up."""
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    prsm("testnet", "up", "-n", "1", "--dir", one)
    prsm("testnet", "up", "-n", "1", "--dir", other)
    try:
        address = address_of(f"{one}/node1")
        refused = prsm("--home", f"{other}/node1", "net", "connect", address, code=1)
        error = refused["error"]
        assert isinstance(error, dict)
        assert error["code"] == -32051
        assert prsm("--home", f"{other}/node1", "status")["state"] == "ready"
    finally:
        prsm("testnet", "down", "--dir", one)
        prsm("testnet", "down", "--dir", other)
