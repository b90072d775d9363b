"""Networks on this machine, as far as no daemon is started: folders, keys, ports, processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from prsm.node.config import load as load_config
from prsm.node.home import Home
from prsm.node.keys import read_public_keys
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import from_json
from prsm.testnet import launch
from prsm.testnet.launch import (
    BALANCE,
    STAKE,
    Node,
    NodeDied,
    NotInTime,
    Rig,
    create,
    free_ports,
    load,
)


def test_network_is_made_of_one_genesis_and_private_homes(tmp_path: Path) -> None:
    """Two nodes: stakes, balances and addresses match the keys; all ports differ."""
    network = create(tmp_path / "net", 2, liars=[1])
    genesis = from_json(network.genesis.read_bytes())
    keys = [read_public_keys(node.home) for node in network.nodes]
    assert [v.peer_id for v in genesis.validators] == [key.peer_id for key in keys]
    assert {v.stake for v in genesis.validators} == {STAKE}
    assert {a.account: a.amount for a in genesis.allocations} == {k.wallet: BALANCE for k in keys}
    configs = [load_config(node.home.config, environ={}).config for node in network.nodes]
    for config, other in zip(configs, reversed(keys), strict=True):
        assert config.net.bootstrap[0].endswith(other.peer_id)
    ports = [config.rpc.port for config in configs]
    ports += [int(config.net.listen[0].rsplit("/", 1)[1]) for config in configs]
    assert len(set(ports)) == 4
    for node in network.nodes:
        assert node.home.genesis.read_bytes() == network.genesis.read_bytes()
        assert (node.home.root / "password").stat().st_mode & 0o777 == 0o600
    assert [node.liar for node in network.nodes] == [False, True]


def test_rig_gives_each_node_its_own_addresses_of_the_others(tmp_path: Path) -> None:
    """Proxies between every two, clocks that can be set, no models; all of it found again."""
    rig = Rig(route=lambda dialler, dialled: 10_000 + 10 * dialler + dialled, own_clocks=True)
    create(tmp_path / "net", 3, rig=replace(rig, models=False))
    for place, node in enumerate(load(tmp_path / "net").nodes):
        config = load_config(node.home.config, environ={}).config
        told = {int(address.split("/")[4]) for address in config.net.bootstrap}
        assert told == {10_000 + 10 * place + other for other in range(3) if other != place}
        assert config.net.listen == (f"/ip4/127.0.0.1/tcp/{node.port}",)
        assert not config.executor.enabled
        assert node.has_own_clock


@pytest.mark.parametrize("count", [0, 33])
def test_counts_out_of_bounds_are_refused(tmp_path: Path, count: int) -> None:
    """Before anything is made."""
    with pytest.raises(LocalError, match="1 to 32"):
        create(tmp_path / "net", count)
    assert not (tmp_path / "net").exists()


def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Keys are never overwritten."""
    create(tmp_path / "net", 1)
    with pytest.raises(LocalError, match="not empty"):
        create(tmp_path / "net", 1)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"nodes": 7}'])
def test_folder_without_a_network_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Nothing there, or no description of one."""
    if content is not None:
        (tmp_path / "network.json").write_bytes(content)
    with pytest.raises(LocalError, match="no network"):
        load(tmp_path)


def test_pid_of_another_program_is_never_ours(tmp_path: Path) -> None:
    """The description names a pid that is another process now: nobody gets a signal."""
    network = create(tmp_path / "net", 2)
    network.nodes[0].pid = os.getpid()
    network.nodes[1].pid = 0
    network.save()
    found = load(tmp_path / "net")
    assert [node.pid for node in found.nodes] == [0, 0]
    assert not found.nodes[0].is_running()
    assert found.stop()
    network.save()
    with network.nodes[0].home.hold():
        assert load(tmp_path / "net").nodes[0].pid == os.getpid()


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Node]:
    """A process in the place of a daemon; it ends on SIGTERM."""
    home = Home(tmp_path / "home")
    home.create()
    node = Node("sleeper", home)
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    node.pid = child.pid
    yield node
    child.kill()
    child.wait()


def test_process_is_seen_and_ended(sleeper: Node) -> None:
    """Running, then ended by SIGTERM alone."""
    assert sleeper.is_running()
    assert sleeper.stop(time.monotonic() + 5)
    assert sleeper.pid == 0
    assert not sleeper.is_running()


def test_process_that_ended_is_told_with_its_last_words(sleeper: Node) -> None:
    """A daemon that died before it was ready: the end of its log is in the error."""
    sleeper.home.log.write_text("one\ntwo\nthree\nthe port is taken\n")
    sleeper.signal(signal.SIGKILL)
    with pytest.raises(NodeDied, match=r"two \| three \| the port is taken"):
        sleeper.wait_ready(time.monotonic() + 5)


def test_process_that_is_never_ready_is_told_in_time(sleeper: Node) -> None:
    """It runs and answers nothing: the deadline ends the wait."""
    with pytest.raises(NotInTime, match="not ready: no log"):
        sleeper.wait_ready(time.monotonic())


def test_ports_are_free_and_different() -> None:
    """Each can be bound."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_description_is_for_later_versions_too(tmp_path: Path) -> None:
    """A field more does not matter."""
    create(tmp_path / "net", 1)
    path = tmp_path / "net" / "network.json"
    described = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(described | {"since": 1}))
    assert [node.name for node in load(tmp_path / "net").nodes] == ["node1"]
    assert launch.PASSWORD
