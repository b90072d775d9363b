"""A disk without room, on the product as it is: no votes, but reads, until there is room again."""

import random
from pathlib import Path

import pytest
import trio

from prsm.node.rpc.methods.chain import ChainStatus
from prsm.testnet import exports, scene, stages
from prsm.testnet.asking import Asker
from prsm.testnet.faults import Fault, Kind
from prsm.testnet.links import PlainLinks
from prsm.testnet.manifest import parse
from prsm.testnet.perturb import Perturber

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


async def test_node_goes_on_by_itself_once_there_is_room(tmp_path: Path) -> None:
    """One validator; no file of it may grow (RLIMIT_FSIZE) while a transfer is handed in.

    It says that it does not vote, answers reads, and begins anew by itself in the same process.
    """
    folder = tmp_path / "net"
    wanted = parse('name = "x"\n[nodes.a]\n')
    try:
        network = await trio.to_thread.run_sync(stages.up, folder, wanted)
        pid = network.nodes[0].pid
        async with scene.opened(folder) as found:
            pulse = await found.pulse(0)
            perturber = Perturber(
                found.network, PlainLinks(), (0,), found.watches, random.Random(1)
            )
            await pulse.beat(found.watches[0])
            height = found.watches[0].height
            async with trio.open_nursery() as nursery:
                nursery.start_soon(perturber.carry_out, Fault(Kind.DISK_FULL, (0,), seconds=5))
                await trio.sleep(0.5)
                nursery.start_soon(pulse.beat, found.watches[0])
                why: list[str] = []
                with trio.move_on_after(4):
                    while not why:
                        await trio.sleep(0.1)
                        why = await exports.stopped("a", found.doors[0])
                assert "disk" in why[0]
                asker = Asker(found.doors[0])
                status = await asker.call("chain_getStatus", result=ChainStatus)
                asker.close()
                assert status.height <= height + 1
            assert perturber.outcomes[0].note == "a went on by itself"
            assert found.network.nodes[0].pid == pid
            await pulse.beat(found.watches[0])
            assert await exports.stopped("a", found.doors[0]) == []
    finally:
        assert await trio.to_thread.run_sync(stages.down, folder)
