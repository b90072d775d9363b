"""A real js-ipfs 0.18.1 daemon: what we add there and get from there is byte for byte ours.

Needs `python scripts/ipfs_peers.py` once; skipped with that reason otherwise. The daemon runs on
loopback, with a new repository and neither bootstrap peers nor multicast.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.cid import hash_block
from prsm.storage.errors import SourceDown, SourceFailed
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.sources.ipfs_rpc import IpfsRpc
from prsm.storage.store.model_store import ModelStore

FOLDER = Path(__file__).parents[3] / ".ipfs-peers" / "js-ipfs"
JSIPFS = FOLDER / "node_modules" / ".bin" / "jsipfs"
MIB = 1 << 20

pytestmark = [
    pytest.mark.net,
    pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning"),
    pytest.mark.skipif(
        not JSIPFS.exists() or shutil.which("node") is None,
        reason="js-ipfs is not installed: python scripts/ipfs_peers.py",
    ),
]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for made in sockets:
            made.bind(("127.0.0.1", 0))
        return [made.getsockname()[1] for made in sockets]
    finally:
        for made in sockets:
            made.close()


def settings(ports: list[int]) -> Iterator[tuple[str, ...]]:
    api, gateway, rpc, swarm = ports
    yield "init", "--profile", "test", "--empty-repo"
    yield "config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{api}"
    yield "config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{gateway}"
    yield "config", "Addresses.RPC", f"/ip4/127.0.0.1/tcp/{rpc}"
    yield "config", "--json", "Addresses.Swarm", f'["/ip4/127.0.0.1/tcp/{swarm}"]'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the daemon for this module."""
    folder = tmp_path_factory.mktemp("js-ipfs")
    environment = os.environ | {
        "IPFS_PATH": str(folder / "repo"),
        "NODE_OPTIONS": f"--require {FOLDER / 'polyfill.cjs'}",
    }
    ports = free_ports(4)
    for arguments in settings(ports):
        subprocess.run(
            [JSIPFS, *arguments], env=environment, check=True, capture_output=True, timeout=60
        )
    log = (folder / "log").open("wb")
    daemon = subprocess.Popen(
        [JSIPFS, "daemon"], env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_until_ready(folder / "log", daemon)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)  # the group that was started above
        daemon.wait(10)
        log.close()


def wait_until_ready(log: Path, daemon: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while b"Daemon is ready" not in log.read_bytes():
        assert daemon.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        try:
            daemon.wait(0.2)
        except subprocess.TimeoutExpired:
            continue


async def test_daemon_says_who_it_is(url: str) -> None:
    found = await IpfsRpc(url).check()
    assert (found.version, found.warnings) == ("0.18.1", ())
    assert found.peer_id


@pytest.mark.parametrize("size", [0, 5, MIB, MIB + 1, 20 * MIB + 7])
async def test_file_added_to_the_daemon_comes_back(url: str, tmp_path: Path, size: int) -> None:
    """Add from one store, fetch into another through the daemon only."""
    (tmp_path / "file").write_bytes(Random(size).randbytes(size))
    one = await ModelStore.open(tmp_path / "one", quota=100 * MIB)
    two = await ModelStore.open(tmp_path / "two", quota=100 * MIB)
    source = IpfsRpc(url)
    added = await one.add_file(tmp_path / "file")
    await source.add_file(await one.path(added.root), root=added.root)
    with trio.fail_after(60):
        fetched = await Exchange(two).fetch(added.root, size, [source])
    assert sum(fetched.bytes_by_source.values()) == size
    assert (await two.path(added.root)).read_bytes() == (tmp_path / "file").read_bytes()
    await one.close()
    await two.close()


async def test_missing_block_ends_at_the_deadline(url: str, tmp_path: Path) -> None:
    """js-ipfs hunts for ever; that is a timeout or a refusal, never a wrong answer."""
    store = await ModelStore.open(tmp_path / "store", quota=MIB)
    with trio.fail_after(30), pytest.raises(SourceFailed):
        await Exchange(store).fetch(hash_block(b"?"), 1, [IpfsRpc(url)])
    await store.close()


async def test_daemon_that_is_gone_is_down() -> None:
    with pytest.raises(SourceDown):
        await IpfsRpc(f"http://127.0.0.1:{free_ports(1)[0]}").check()
