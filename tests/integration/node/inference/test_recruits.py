"""A plan that too few linked workers allow, with others that were only heard of."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Collection

import pytest
import trio
from trio.testing import MockClock

from prsm.node.clock import TrioClock
from prsm.node.inference.market import Market
from prsm.node.inference.planning import Planning
from prsm.node.inference.refusals import NoCutForK, TooFewPeers
from prsm.node.inference.wishes import Wish
from tests.tools.work import MODEL, Cluster, make_cluster, make_manifest

WORKERS = 3


class Recruits:
    """Links to one worker at a time, in order; notes what it was asked for."""

    def __init__(self, cluster: Cluster, most: int) -> None:
        self.cluster = cluster
        self.left = cluster.workers[:most]
        self.asked: list[tuple[bytes, str, Collection[bytes]]] = []

    async def seek(self, model: bytes, runtime: str, only: Collection[bytes]) -> bool:
        await trio.lowlevel.checkpoint()
        self.asked.append((model, runtime, only))
        if not self.left:
            return False
        address = self.cluster.hub.address(self.left.pop(0).network.peer_id)
        await self.cluster.requester.network.connect(address)
        return True


async def alone(nursery: trio.Nursery) -> Cluster:
    """A requester that is linked to nobody, and workers."""
    cluster = make_cluster(1 + WORKERS)
    await nursery.start(cluster.world.run)
    for node in cluster.nodes:
        await nursery.start(node.run)
    return cluster


def wish(redundancy: int, stages: int | None = 1) -> Wish:
    return Wish(model=MODEL, batch_rows=(4, 4), stages=stages, redundancy=redundancy, spares=0)


@pytest.mark.parametrize("redundancy", [1, 3])
async def test_workers_are_added_until_they_are_enough(
    redundancy: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = await alone(nursery)
    recruits = Recruits(cluster, WORKERS)
    planning = Planning(cluster.requester.links, TrioClock(), Market(recruit=recruits.seek))
    manifest = make_manifest()
    made = await planning.plan(manifest, wish(redundancy))
    assert len(recruits.asked) == len(made.peers) == redundancy
    assert recruits.asked[0] == (MODEL, manifest.compute.runtime, ())


async def test_nobody_is_sought_without_end_or_without_need(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = await alone(nursery)
    recruits = Recruits(cluster, 1)
    planning = Planning(cluster.requester.links, TrioClock(), Market(recruit=recruits.seek))
    manifest = make_manifest()
    with pytest.raises(NoCutForK):
        await planning.plan(manifest, wish(3, stages=60))
    assert not recruits.asked, "more workers cut no model"
    with pytest.raises(TooFewPeers):
        await planning.plan(manifest, wish(3))
    assert len(recruits.asked) == 2
    with pytest.raises(TooFewPeers):
        await Planning(cluster.requester.links, TrioClock(), Market()).plan(manifest, wish(3))
