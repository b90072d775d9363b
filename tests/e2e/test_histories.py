"""Real daemons between which faults happen: histories judged, a partition, a killed proposer."""

import io
from pathlib import Path

import pytest
import trio

from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.wallet import AccountParams, Nonce
from prsm.protocol.ids import address_text
from prsm.testnet import outages
from prsm.testnet.asking import Asker
from prsm.testnet.faults import PASSING
from prsm.testnet.histories import run
from prsm.testnet.orders import signer_of
from prsm.testnet.report import Screen

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
OPERATIONS = 5_000


def test_history_of_five_thousand_operations_is_serial() -> None:
    """Five nodes; every fault at least once; nothing lost, stale, doubled or minted; it heals."""
    options = run.Options(operations=OPERATIONS, seed=3, clients=40, scale=0.5)
    document = run.measure(options, Screen(io.StringIO()))
    assert run.failures(document) == [], document
    assert isinstance(document["operations"], int)
    assert document["operations"] >= OPERATIONS
    assert document["lost_acknowledged_writes"] == 0
    assert document["stale_reads"] == 0
    assert document["supply_change"] == 0
    assert isinstance(document["writes_acknowledged"], int)
    assert document["writes_acknowledged"] >= 100  # on a slow machine reads go ahead of them
    faults = document["faults"]
    assert isinstance(faults, dict)
    assert all(faults[kind.value] for kind in PASSING)


async def test_isolated_node_says_nothing_new_and_comes_back(tmp_path: Path) -> None:
    """The proxies are the only way between nodes: behind a partition a node is alone.

    It then outlives the proposer too: whoever that is, killed, the next write comes soon.
    """
    async with outages.lab(tmp_path / "net", seed=1) as running:
        await running.write(1)
        running.proxy.partition({1, 2, 3})
        before = running.watches[0].height
        with trio.fail_after(30):
            for place in (1, 2, 3):
                await running.write(place)
        account = address_text(signer_of(1, 0).public_key)
        # Each write waited for another node: the last one may be durable at node 3 alone so far.
        reached = max(running.watches[place].height for place in (1, 2, 3))
        params = AccountParams(account, min_height=reached)
        asker = Asker(running.doors[0])
        with trio.move_on_after(1) as waited:
            await asker.call("account_getNonce", params, result=Nonce)
        assert waited.cancelled_caught, "it knows a block that nobody could have shown it"
        # The block under way when the partition began may still have been decided there.
        assert running.watches[0].height <= before + 1
        running.proxy.heal()
        with trio.fail_after(30):
            assert (await asker.call("account_getNonce", params, result=Nonce)).nonce == 4
            leader = await running.proposer()
            await running.kill(leader)
            assert await running.write((leader + 1) % 4) < outages.KILL_P99_MS
        asker.close()
        with pytest.raises(NodeUnreachable):
            await Asker(running.doors[leader]).call("account_getNonce", params, result=Nonce)
