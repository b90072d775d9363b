"""Names of tabs that survive the process: a disk that refuses them, a lock that never came."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.commits import LOCKED_WITHIN_MS
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.serving import tabs
from prsm.node.inference.serving.service import ServeRequest, Serving
from prsm.node.inference.serving.tab import TabState
from prsm.storage.errors import Full
from tests.tools.work import MODEL, Cluster, FullDisk, given_rows, make_cluster, whole_run
from tests.tools.work_chain import FUNDS

ASKED = ServeRequest("adder", given_rows(1))


async def serve(nursery: trio.Nursery, cluster: Cluster, notes: MemoryReceipts) -> Serving:
    await cluster.start(nursery)

    async def resolve(_ref: str) -> bytes:
        await trio.lowlevel.checkpoint()
        return MODEL

    made = Serving(cluster.requester.jobs._requester, resolve, notes=notes)
    await nursery.start(made.run)
    return made


async def test_a_tab_that_finds_no_room_for_its_name_takes_no_place(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted as one that is opened, for as long as the process lived."""
    monkeypatch.setattr(tabs, "TABS_MAX", 1)
    cluster, disk = make_cluster(2), FullDisk(tries=1)
    serving = await serve(nursery, cluster, disk)
    with pytest.raises(Full):
        await serving.ask(ASKED)
    await trio.sleep(1)
    [tab] = serving.tabs.list()
    assert (tab.state, tab.may_be_locked) == (TabState.SETTLED, False)
    assert isinstance(tab.error, Full)
    assert cluster.world.balance(cluster.requester.address) == FUNDS
    assert (await serving.ask(ASKED)).outputs[0].data == whole_run(1)


async def test_a_lock_that_never_came_is_looked_for_as_long_as_a_block_could_take_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """From the start of the process that finds its name, and no longer."""
    cluster, notes, job = make_cluster(2), MemoryReceipts(), b"j" * 32
    await notes.keep(job, 0, job)
    await serve(nursery, cluster, notes)
    world = cluster.world
    began_ms = world.time_ms
    with trio.fail_after(2_000):
        while await notes.load():
            await cluster.requester.chain.wait_height(world.height + 1)
    took_ms = world.time_ms - began_ms
    assert LOCKED_WITHIN_MS < took_ms < LOCKED_WITHIN_MS + 30_000  # two blocks or three
