"""Sources outside the network, by the configuration: in order, ranked, shown with their health."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from prsm.node.clock import TrioClock
from prsm.node.config.checks import validate
from prsm.node.config.schema import Config, StorageConfig
from prsm.node.config.section import ConfigError
from prsm.node.models.outside import Outside, Place
from prsm.node.net.bitswap.door import Door, DoorRules
from prsm.node.net.budgets import NO_LIMITS
from prsm.node.net.lanes import Lanes
from prsm.protocol.errors import LocalError
from prsm.storage.cid import hash_block
from prsm.storage.errors import SourceCorrupt, SourceDown
from prsm.storage.interfaces import Leaf
from prsm.storage.sources.health import FAULTS_OPEN, State
from prsm.storage.sources.pool import Tier, load_health
from tests.tools.bitswap_peers import DictShelf, lanes
from tests.tools.ipfs_faults import faulty_daemon
from tests.tools.sources import MemorySource

pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

BLOCK = b"a block" * 100
LEAF = Leaf(0, sha256(BLOCK).digest(), len(BLOCK))
ROOT = hash_block(BLOCK)


def place(folder: Path) -> Place:
    still = Lanes(NO_LIMITS, now_ms=lambda: 0)  # nothing here comes near a budget
    return Place(bytes([5]) * 32, still, TrioClock(), folder / "sources.json")


@asynccontextmanager
async def running(outside: Outside) -> AsyncIterator[Outside]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(outside.run)
            yield outside
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_every_class_is_asked_in_order_and_shown(tmp_path: Path) -> None:
    rules = DoorRules(listen=("/ip4/127.0.0.1/tcp/0",))
    far = Door(bytes(32), DictShelf(BLOCK), lanes=lanes(), clock=TrioClock(), rules=rules)
    with faulty_daemon() as one, faulty_daemon() as two:
        one.blocks[LEAF.digest] = two.blocks[LEAF.digest] = BLOCK
        async with trio.open_nursery() as nursery:
            await nursery.start(far.run)
            config = StorageConfig(
                ipfs_rpc=(one.url,),
                gateways=(two.url,),
                bitswap=True,
                bitswap_listen=(),
                ipfs_peers=far.addresses,
            )
            outside = Outside(config, DictShelf(), place(tmp_path))
            assert outside.door is not None
            up = trio.Event()
            outside.door.on_peer(lambda _event: up.set())
            async with running(outside):
                await up.wait()
                peer = MemorySource(BLOCK)
                sources = outside.sources((peer,))
                names = ["memory", f"bitswap:{far.peer_id}", one.url, two.url]
                assert [source.name for source in sources] == names
                for source in sources:
                    assert list(await source.fetch(ROOT, (LEAF,))) == [BLOCK]
                rows = outside.rows()
                assert [row.name for row in rows] == names
                assert [row.tier for row in rows] == list(Tier)
                assert all((row.state, row.bytes) == (State.OK, len(BLOCK)) for row in rows)
                assert [source.name for source in outside.sources()] == names[1:]
            nursery.cancel_scope.cancel()
    saved = [each.name for each in load_health(tmp_path / "sources.json")]
    assert {*names[2:]} <= {*saved}


async def test_peers_stay_in_the_order_of_who_knows_the_holders(tmp_path: Path) -> None:
    outside = Outside(StorageConfig(), DictShelf(), place(tmp_path))
    peers = [MemorySource(BLOCK, name) for name in "bcad"]
    for _ in range(FAULTS_OPEN):
        outside.sources(peers)
        outside.blame("a", SourceCorrupt("other bytes"))
    order = [source.name for source in outside.sources(peers)]
    assert [name for name in order if name != "a"] == ["b", "c", "d"]
    assert [row.name for row in outside.rows()] == ["a", "b", "c", "d"]
    outside.sources(peers[:1])
    assert [row.name for row in outside.rows()] == ["b"]


async def test_dead_daemon_is_shown_and_left_out_after_a_restart(tmp_path: Path) -> None:
    config = StorageConfig(ipfs_rpc=("http://127.0.0.1:1",))
    async with running(Outside(config, DictShelf(), place(tmp_path))) as outside:
        [source] = outside.sources()
        for _ in range(FAULTS_OPEN):
            with pytest.raises(SourceDown):
                await source.node(LEAF.digest)
        outside.blame(source.name, SourceCorrupt("other bytes"))
    async with running(Outside(config, DictShelf(), place(tmp_path))) as again:
        [row] = again.rows()
        assert (row.state, row.last_error) == (State.OPEN, "other bytes")


async def test_daemons_are_each_there_once_where_the_part_began_again(tmp_path: Path) -> None:
    config = StorageConfig(ipfs_rpc=("http://127.0.0.1:1",))
    outside = Outside(config, DictShelf(), place(tmp_path))
    for _ in range(2):
        async with running(outside):
            assert [daemon.name for daemon in outside.daemons] == ["http://127.0.0.1:1"]


async def test_offline_node_opens_nothing(tmp_path: Path) -> None:
    config = StorageConfig(
        ipfs_rpc=("http://127.0.0.1:1",),
        gateways=("http://127.0.0.1:2",),
        bitswap=True,
        offline=True,
    )
    async with running(Outside(config, DictShelf(), place(tmp_path))) as outside:
        assert outside.door is None
        assert outside.sources() == []


@pytest.mark.parametrize(
    "config",
    [
        StorageConfig(bitswap=True, ipfs_peers=("/ip4/127.0.0.1/p2p/x",)),
        StorageConfig(gateways=("http://u:secret@127.0.0.1",)),
        StorageConfig(ipfs_rpc=("http://127.0.0.1:5001/api?secret",)),
    ],
)
def test_url_or_address_that_is_none_is_refused(config: StorageConfig, tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        Outside(config, DictShelf(), place(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("storage", "key"),
    [
        (StorageConfig(ipfs_peers=("/ip4/127.0.0.1/tcp/1/p2p/Qm",)), "storage.bitswap is false"),
        (StorageConfig(bitswap=True, ipfs_peers=("/ip4/127.0.0.1/tcp/1",)), "ipfs_peers"),
        (StorageConfig(bitswap_listen=("127.0.0.1:4411",)), "no multiaddress"),
        (StorageConfig(gateways=("/ip4/127.0.0.1/tcp/1",)), "storage.gateways"),
    ],
)
def test_keys_that_contradict_each_other_are_named(storage: StorageConfig, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        validate(Config(storage=storage))
