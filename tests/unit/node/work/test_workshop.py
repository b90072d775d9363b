"""The workshop joins what the configuration says."""

from pathlib import Path

import pytest
import trio

from prsm.node.chain.chain import ChainParts
from prsm.node.config.load import load
from prsm.node.home import Home
from prsm.node.inference.interface import JobFacts
from prsm.node.keys import make_keys
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import open_reach
from prsm.node.work.workshop import Opened, Start, Workshop, make_workshop
from prsm.protocol.receipts import WorkKind
from prsm.storage.diskguard import DiskGuard
from prsm.storage.store.model_store import ModelStore
from tests.tools.labs import make_cluster

FACTS = JobFacts(
    job=bytes(32), tenant=b"", requester=bytes(32), kind=WorkKind.INFER, model=b"", rows=1
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sandbox", "refused"), [("strict", True), ("auto", True), ("degraded", False)]
)
async def test_executor_follows_the_sandbox_setting(
    tmp_path: Path, sandbox: str, *, refused: bool
) -> None:
    """No worker program runs, so no layer is there: strict refuses units, degraded does not."""
    cluster = make_cluster(tmp_path, validators=1)
    home = Home(tmp_path / "home")
    home.create()
    make_keys(home, password="a password", development=True)
    config = load(None, flags={"executor.sandbox": sandbox}).config
    store = await ModelStore.open(home.blocks, quota=2**20)
    made: list[Workshop] = []

    def prepare(parts: ChainParts) -> None:
        network = parts.driver.network
        assert isinstance(network, PeerNetwork)
        start = Start(home, config, None)
        transport = Libp2pTransport(bytes(32), listen=["/ip4/127.0.0.1/tcp/0"])  # never runs
        reach = open_reach(network, transport, config.net, start.clock)
        made.append(
            make_workshop(
                Opened(
                    *(start, cluster.genesis, network, reach, parts, store),
                    DiskGuard(home.data, reserve_bytes=0),
                )
            )
        )

    try:
        with trio.fail_after(20):
            async with cluster.node(0, prepare=prepare):
                hands = made[0].hands
                assert hands is not None
                executor = hands.executor
                assert bool(executor._desk.policy.before(FACTS)) is refused
    finally:
        with trio.CancelScope(shield=True):
            await store.close()
