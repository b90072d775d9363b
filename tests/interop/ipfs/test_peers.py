"""The foreign programs themselves: they start, say who they are, and give back what they got.

Needs `python scripts/ipfs_peers.py` once.
"""

from pathlib import Path
from random import Random

import pytest

from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025, import_chunks
from tests.tools.ipfs_peers import IpfsPeer, PeerRefused, helia, js_ipfs, kubo, needs

pytestmark = needs("kubo", "helia", "js-ipfs")
DATA = Random(5).randbytes(3_000_000)


async def gives_back(peer: IpfsPeer, folder: Path) -> None:
    (folder / "in").write_bytes(DATA)
    root = await peer.add(folder / "in", LEGACY)
    chunks = [DATA[at : at + LEGACY.chunk] for at in range(0, len(DATA), LEGACY.chunk)]
    ours = import_chunks(chunks, profile=LEGACY, keep=lambda _cid, _raw: None)
    assert root == ours.root.text_v0()
    assert await peer.cat(root, folder / f"out-{peer.kind}") == len(DATA)
    assert (folder / f"out-{peer.kind}").read_bytes() == DATA
    assert peer.addresses
    assert all(address.startswith("/ip4/127.0.0.1/tcp/") for address in peer.addresses)
    assert all(address.endswith(f"/p2p/{peer.peer}") for address in peer.addresses)
    assert not await peer.peers()


async def test_kubo_and_helia_give_back_and_exchange(tmp_path: Path) -> None:
    """Each alone first; then Kubo gets from Helia what it has not, over bitswap."""
    async with kubo(tmp_path) as one, helia() as two:
        await gives_back(one, tmp_path)
        await gives_back(two, tmp_path)
        (tmp_path / "in").write_bytes(DATA[::-1])
        root = await two.add(tmp_path / "in", UNIXFS_V1_2025)
        with pytest.raises(PeerRefused):
            await one.connect("/ip4/127.0.0.1/tcp/1/p2p/" + two.peer)
        await one.connect(two.addresses[0])
        assert list(await one.peers()) == [two.peer]
        assert await one.cat(root, tmp_path / "fetched") == len(DATA)
        assert (tmp_path / "fetched").read_bytes() == DATA[::-1]


async def test_js_ipfs_gives_back(tmp_path: Path) -> None:
    async with js_ipfs(tmp_path) as peer:
        await gives_back(peer, tmp_path)
        with pytest.raises(PeerRefused):
            await peer.call("cat", {"arg": "nonsense"})
