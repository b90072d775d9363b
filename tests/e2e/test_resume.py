"""The only validator loses its guard: the chain stands still until its operator acts."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prsm.node.home import Home
from prsm.node.rpc.methods.chain import ChainStatus
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.wallet import TransferParams, Transferred
from prsm.testnet.launch import START_SECONDS, Network, Node, create, nap

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
PRSM = str(Path(sys.executable).with_name("prsm"))


def resume(home: Home, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [PRSM, "--home", str(home.root), "consensus", "unsafe-resume", *words, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def start(node: Node) -> None:
    node.start()
    node.wait_ready(time.monotonic() + START_SECONDS)


def pay(node: Node) -> None:
    with node.client() as client:
        params = TransferParams(to="0x" + f"{7:064x}", amount="1000000")
        client.call("wallet_transfer", params, result=Transferred)


def height_after(node: Node, transactions: int, seconds: float) -> tuple[int, int]:
    """Height and number of transactions, once there are so many or the time is over."""
    with node.client() as client:
        deadline = time.monotonic() + seconds
        while True:
            status = client.call("chain_getStatus", result=ChainStatus)
            if status.transactions >= transactions or time.monotonic() > deadline:
                return status.height, status.transactions
            nap()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = create(tmp_path / "net", 1)
    network.start()
    yield network
    network.stop()


def test_observer_signs_again_when_its_operator_says_from_which_height_on(
    network: Network,
) -> None:
    node = network.nodes[0]
    pay(node)
    assert height_after(node, 1, 20)[1] == 1
    held = resume(node.home, "--height", "99", "--yes-height", "99")
    assert "home_locked" in held.stdout + held.stderr
    assert network.stop()

    (node.home.data / "signguard").unlink()
    start(node)
    with node.client() as client:
        assert client.call("node_getStatus", result=NodeStatus).height >= 1
    pay(node)
    height, transactions = height_after(node, 2, 1.5)
    assert transactions == 1, "an observer decided a block"
    node.stop(time.monotonic() + 10)

    first = str(height + 1)
    assert resume(node.home, "--height", first).returncode == 2, "nobody was asked again"
    assert resume(node.home, "--height", first, "--yes-height", "1").returncode == 2
    low = resume(node.home, "--height", str(height), "--yes-height", str(height))
    assert "resume_refused" in low.stdout + low.stderr
    done = resume(node.home, "--height", first, "--yes-height", first)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["audit"]).exists()

    start(node)
    pay(node)
    assert height_after(node, 2, 20)[1] >= 2
    node.stop(time.monotonic() + 10)
