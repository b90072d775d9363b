"""Real daemons on a private network: three told of one find each other, a fourth key is named."""

import time
from pathlib import Path

import pytest

from prsm.node.keys import make_network_key
from prsm.node.rpc.methods.node import NodeStatus
from prsm.testnet import launch
from prsm.testnet.processes import Node, pause

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SECONDS = 60.0


def configure(node: Node, *, bootstrap: list[str], key: Path) -> None:
    """Tell a node of fewer peers than the launcher does, and of a key."""
    lines = node.home.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("bootstrap")]
    at = kept.index("[net]") + 1
    quoted = ", ".join(f'"{address}"' for address in bootstrap)
    kept[at:at] = [f"bootstrap = [{quoted}]", f'psk_file = "{key}"']
    node.home.config.write_text("\n".join(kept) + "\n")


def peers_of(node: Node) -> int:
    with node.client() as client:
        return client.call("node_getStatus", result=NodeStatus).peers


def test_nodes_told_of_one_find_each_other_and_a_wrong_key_is_named(tmp_path: Path) -> None:
    """Four validators: three share a key and know the first; the last has another key."""
    key, other = tmp_path / "swarm.key", tmp_path / "other.key"
    make_network_key(key)
    make_network_key(other)
    network = launch.create(tmp_path / "net", 4, rig=launch.Rig(models=False))
    first = next(
        address.split('"')[1]
        for line in network.nodes[1].home.config.read_text().splitlines()
        if line.startswith("bootstrap")
        for address in line.split("=")[1].strip(" []").split(", ")
        if f"/tcp/{network.nodes[0].port}/" in address
    )
    for place, node in enumerate(network.nodes):
        told = [] if place == 0 else [first]
        configure(node, bootstrap=told, key=other if place == 3 else key)
    deadline = time.monotonic() + SECONDS
    try:
        for node in network.nodes:
            node.start()
        for node in network.nodes:
            node.wait_ready(deadline)
        for node in network.nodes[:3]:
            launch.wait_peers(node, 2, deadline)
        while "under this network's key" not in network.nodes[3].home.log.read_text():
            pause(deadline, "the last node does not say what is wrong")
        assert peers_of(network.nodes[3]) == 0
        assert [peers_of(node) for node in network.nodes[:3]] == [2, 2, 2]
        assert (network.nodes[0].home.root / "net" / "addresses").exists() is False
    finally:
        for node in network.nodes:
            node.stop(time.monotonic() + 20)
    assert (network.nodes[0].home.root / "net" / "addresses").stat().st_mode & 0o777 == 0o600
