"""Chain files and backups of a real node, taken while it runs and pays; then a restored home."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prsm.node.home import Home, write_private
from prsm.node.rpc.methods.chain import ChainStatus
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.wallet import TransferParams, Transferred
from prsm.testnet.launch import PASSWORD, START_SECONDS, Network, Node, create, nap

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
PRSM = str(Path(sys.executable).with_name("prsm"))


def prsm(home: Home, *words: str, code: int = 0) -> dict[str, object]:
    """Run `prsm … --json`; stdout must be exactly one JSON document."""
    command = [PRSM, "--home", str(home.root), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def pay(node: Node, count: int) -> None:
    with node.client() as client:
        for number in range(count):
            params = TransferParams(to="0x" + f"{number + 1:064x}", amount="1000000")
            client.call("wallet_transfer", params, result=Transferred)


def settled(node: Node, transactions: int) -> ChainStatus:
    """Where the chain stands once so many transactions are in blocks."""
    with node.client() as client:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            status = client.call("chain_getStatus", result=ChainStatus)
            if status.transactions >= transactions:
                return status
            nap()
    raise AssertionError(f"{transactions} transactions are not in blocks")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = create(tmp_path / "net", 1)
    network.start()
    yield network
    network.stop()


def test_exports_and_backups_of_a_running_node_become_homes_of_the_same_state(
    network: Network, tmp_path: Path
) -> None:
    node = network.nodes[0]
    secret, chain, backup, rest = (tmp_path / n for n in ("secret", "chain", "backup", "rest"))
    write_private(secret, b"a backup's own\n")
    keys = node.home.root / "password"
    pay(node, 5)
    pay(node, 20)  # still on their way while the copies are taken
    sealed = prsm(node.home, "backup", str(backup), "--password-file", str(secret))
    early = prsm(node.home, "chain", "export", str(chain))
    final = settled(node, 25)
    assert final.height >= int(str(early["last"])) >= 1
    refused = prsm(node.home, "chain", "import", str(chain), code=1)
    assert "home_locked" in json.dumps(refused)
    assert network.stop()

    # The rest of the blocks comes from the stopped node's file.
    fresh = Home(tmp_path / "fresh")
    # An empty block may have come after the look at the settled node: it changes no account.
    height = int(str(prsm(node.home, "chain", "export", str(rest), "--from", "1")["last"]))
    prsm(
        *(fresh, "init", "--genesis", str(network.genesis), "--password-file", str(secret)),
        *("--rpc", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"),
    )
    prsm(fresh, "chain", "import", str(chain))
    imported = prsm(fresh, "chain", "import", str(rest))
    assert (imported["height"], imported["state_root"]) == (height, final.state_root)

    restored = Home(tmp_path / "restored")
    words = ("restore", str(backup), "--password-file", str(secret))
    checked = prsm(restored, *words, "--verify", "--keys-password-file", str(keys))
    assert (checked["height"], checked["keys_opened"]) == (sealed["height"], True)
    assert not restored.root.exists()
    made = prsm(restored, *words)
    assert made["was_validator"] is True
    caught_up = prsm(restored, "chain", "import", str(rest))
    assert caught_up["state_root"] == final.state_root

    again = Node("restored", restored)
    again.start()
    try:
        again.wait_ready(time.monotonic() + START_SECONDS)
        with again.client() as client:
            status = client.call("node_getStatus", result=NodeStatus)
        assert (status.height, status.state_root) == (height, final.state_root)
        assert status.validator is False  # its key stayed behind: it follows
        assert PASSWORD not in restored.config.read_text()
    finally:
        again.stop(time.monotonic() + 10)
