"""A whole node as an IPFS peer: Kubo takes a file from a daemon, and is shown as a source.

Needs `python scripts/ipfs_peers.py` once. Everything is on loopback.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from prsm.node.net.bitswap.door import door_seed
from prsm.node.net.guard import peer_of
from prsm.storage.cid import Cid, hash_block
from prsm.storage.dag.car import write_car
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.keystore import load_seed
from tests.e2e.test_cli import Shell
from tests.tools.ipfs_peers import free_ports, kubo, needs

SIZE = (8 << 20) + 99

pytestmark = needs("kubo")


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shell, str]]:
    """A running node whose door for IPFS peers is open, and the address of the door."""
    where = f"/ip4/127.0.0.1/tcp/{free_ports(1)[0]}"
    monkeypatch.setenv("PRSM_STORAGE__BITSWAP", "true")
    monkeypatch.setenv("PRSM_STORAGE__BITSWAP_LISTEN", where)
    shell = Shell(tmp_path / "home")
    shell.json("init", "--rpc", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0")
    shell.json("start", "--detach", "--timeout", "60")
    seed = load_seed(tmp_path / "home" / "keys" / "node.key")
    yield shell, f"{where}/p2p/{peer_of(door_seed(seed))}"
    shell.run("stop")


def write_file_car(data: bytes, path: Path) -> Cid:
    """Write the CAR of a file as our store cuts it; returns the root."""
    chunks = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
    nodes: list[tuple[Cid, bytes]] = []
    dag = import_chunks(
        chunks, profile=UNIXFS_V1_2025, keep=lambda cid, raw: nodes.append((cid, raw))
    )
    with path.open("wb") as out:
        write_car(out, dag.root, [*nodes, *((hash_block(each), each) for each in chunks)])
    return dag.root


async def test_kubo_takes_a_file_from_a_daemon(door: tuple[Shell, str], tmp_path: Path) -> None:
    shell, address = door
    data = Random(11).randbytes(SIZE)
    root = write_file_car(data, tmp_path / "file.car")
    shell.json("storage", "import", str(tmp_path / "file.car"))
    async with kubo(tmp_path) as foreign:
        await foreign.connect(address)
        assert await foreign.cat(str(root), tmp_path / "out") == SIZE
        assert (tmp_path / "out").read_bytes() == data
        rows = shell.json("storage", "sources")["items"]
        assert [(row["name"], row["kind"], row["state"]) for row in rows] == [
            (f"bitswap:{foreign.peer}", "bitswap", "ok")
        ]
