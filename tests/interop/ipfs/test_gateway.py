"""The js-ipfs daemon's RPC and gateway as sources: bytes, and the answer that is of no use.

Needs `python scripts/ipfs_peers.py` once. Everything is on loopback.
"""

from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.cid import Cid, hash_block
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.errors import NotFound, SourceFailed, SourceUnfit
from prsm.storage.interfaces import Leaf
from prsm.storage.sources.gateway import open_gateways
from prsm.storage.sources.ipfs_rpc import IpfsRpc
from tests.interop.ipfs.test_bitswap import RATE_MIN, Rate, timed
from tests.tools.ipfs_peers import js_ipfs, needs

MIB = 1 << 20
JS_RATE_MIN = 15.0  # MB/s from this daemon

pytestmark = [
    *needs("js-ipfs"),
    pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning"),
]


async def test_rpc_takes_files_of_any_size_and_its_gateway_is_unfit(tmp_path: Path) -> None:
    """A file of 175 leaves is imported as our own DAG, and each block comes back by its CID."""
    leaf = Random(7).randbytes(MIB)
    path = tmp_path / "file"
    with path.open("wb") as file:
        for number in range(175):
            file.write(number.to_bytes(4, "big") + leaf[4:])
    chunks = [number.to_bytes(4, "big") + leaf[4:] for number in range(175)]
    nodes: dict[Cid, bytes] = {}
    dag = import_chunks(chunks, profile=UNIXFS_V1_2025, keep=nodes.__setitem__)
    async with js_ipfs(tmp_path) as daemon, open_gateways([daemon.gateway]) as [gateway]:
        source = IpfsRpc(daemon.url)
        found = await source.check()
        assert (found.version, found.warnings) == ("0.18.1", ())
        data = b"".join(chunks)
        rates: list[Rate] = []
        with trio.fail_after(120), timed("js-ipfs <- ours, RPC", rates, data):
            await source.add_file(path, root=dag.root)
        leaves = [Leaf(index, hash_block(each).digest, MIB) for index, each in enumerate(chunks)]
        with trio.fail_after(120), timed("ours <- js-ipfs, RPC", rates, data):
            for at in range(0, len(leaves), 8):
                run = leaves[at : at + 8]
                assert list(await source.fetch(dag.root, run)) == chunks[at : at + 8]
        assert rates[0].holds(RATE_MIN)
        assert rates[1].holds(JS_RATE_MIN)
        assert await source.node(dag.root.digest) == nodes[dag.root]
        # js-ipfs hunts for what it lacks, for ever: a timeout or a refusal, never other bytes.
        with pytest.raises((SourceFailed, NotFound)):
            await source.node(bytes(32))
        # Its gateway knows no raw blocks: 200, and the whole file as octets.
        with pytest.raises(SourceUnfit):
            await gateway.fetch(dag.root, leaves[:1])
