"""The js-ipfs daemon's RPC and gateway as sources: bytes, and the answer that is of no use.

Needs `python scripts/ipfs_peers.py` once. Everything is on loopback.
"""

from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import NotFound, SourceFailed, SourceUnfit
from prsm.storage.interfaces import Leaf
from prsm.storage.sources.gateway import open_gateways
from prsm.storage.sources.ipfs_rpc import IpfsRpc
from prsm.storage.unixfs import UNIXFS_V1_2025, import_chunks
from tests.tools.ipfs_peers import js_ipfs, needs

MIB = 1 << 20

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
    wanted = [Leaf(index, hash_block(chunks[index]).digest, MIB) for index in (0, 1, 2, 173, 174)]
    async with js_ipfs(tmp_path) as daemon, open_gateways([daemon.gateway]) as [gateway]:
        source = IpfsRpc(daemon.url)
        found = await source.check()
        assert (found.version, found.warnings) == ("0.18.1", ())
        with trio.fail_after(90):
            await source.add_file(path, root=dag.root)
        assert await source.node(dag.root.digest) == nodes[dag.root]
        assert list(await source.fetch(dag.root, wanted)) == [chunks[leaf.index] for leaf in wanted]
        # js-ipfs hunts for what it lacks, for ever: a timeout or a refusal, never other bytes.
        with pytest.raises((SourceFailed, NotFound)):
            await source.node(bytes(32))
        # Its gateway knows no raw blocks: 200, and the whole file as octets.
        with pytest.raises(SourceUnfit):
            await gateway.fetch(dag.root, wanted[:1])
