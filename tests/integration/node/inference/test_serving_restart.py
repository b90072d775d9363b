"""Serving that crashed and was begun again inside its process: what was locked and counted."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.serving import tabs
from prsm.node.inference.serving.probes import probe
from prsm.node.inference.serving.service import ServeRequest, Serving
from prsm.node.inference.serving.tab import Tab, TabRules, TabState
from prsm.node.inference.serving.tabs import ServingRules
from prsm.node.net.interface import Busy
from prsm.node.supervise import Supervisor
from prsm.storage.errors import StoreUnavailable
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster, whole_run
from tests.tools.work_chain import FUNDS

ASKED = ServeRequest("adder", given_rows(1))
RULES = ServingRules(tab=TabRules(life_ms=60_000, spare_ms=20_000))


async def serve(nursery: trio.Nursery, cluster: Cluster) -> Serving:
    await cluster.start(nursery)

    async def resolve(_ref: str) -> bytes:
        await trio.lowlevel.checkpoint()
        return MODEL

    made = Serving(cluster.requester.jobs._requester, resolve, rules=RULES, notes=MemoryReceipts())
    await nursery.start(Supervisor("serving").run, made.run)
    return made


async def crash(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in the part, once; then wait until it runs again."""
    crashed = trio.Event()

    def fault() -> None:
        crashed.set()
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(serving.tabs, "_look", fault)
        await crashed.wait()
    await trio.sleep(1)
    assert serving.tabs._nursery is not None


Step = Callable[..., Awaitable[object]]


def stuck(step: Step, reached: trio.Event) -> Step:
    """Do a step, and never come back from it."""

    async def wait(*given: object, **more: object) -> object:
        answer = await step(*given, **more)
        reached.set()
        await trio.Event().wait()
        return answer

    return wait


@pytest.mark.parametrize("where", ["noted", "opened"])
async def test_a_tab_that_was_on_its_way_when_serving_crashed_takes_no_place_for_good(
    where: str, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted as one that is not settled, for as long as the process lived."""
    monkeypatch.setattr(tabs, "TABS_MAX", 1)
    cluster, reached = make_cluster(2), trio.Event()
    serving = await serve(nursery, cluster)
    with monkeypatch.context() as patch:
        if where == "noted":
            patch.setattr(serving.tabs._notes, "keep", stuck(serving.tabs._notes.keep, reached))
        else:
            patch.setattr(tabs, "probe", stuck(probe, reached))
        await serving.warm("adder")
        await reached.wait()
    [tab] = serving.tabs.list()
    assert tab.state.value == ("opening" if where == "noted" else "open")
    await crash(serving, monkeypatch)
    with trio.fail_after(200):
        await over(tab)
    assert tab.state is TabState.SETTLED
    assert (await serving.ask(ASKED)).outputs[0].data == whole_run(1)


async def test_a_tab_that_was_being_settled_when_serving_crashed_is_settled(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its workers answered is paid by us, and one that was open goes on."""
    cluster, reached = make_cluster(2), trio.Event()
    serving = await serve(nursery, cluster)
    await serving.ask(ASKED)
    [tab] = serving.tabs.list()
    await crash(serving, monkeypatch)
    assert (await serving.ask(ServeRequest("adder", given_rows(1), is_fresh=True))).tabs == (
        tab.job,
    )
    with monkeypatch.context() as patch:
        patch.setattr(tabs, "settle", stuck(Tab.wait_idle, reached))
        serving.tabs.close(tab.job)
        await reached.wait()
    await crash(serving, monkeypatch)
    with trio.fail_after(200):
        await over(tab)
    assert (tab.state, tab.error) == (TabState.SETTLED, None)
    assert await serving.tabs._notes.load() == ()
    assert cluster.world.balance(cluster.requester.address) < FUNDS


async def test_inputs_of_a_tab_that_was_settled_are_let_go_where_its_note_was_cut(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 64 MiB of each stayed for as long as it could be looked at."""
    cluster, reached = make_cluster(2), trio.Event()
    serving = await serve(nursery, cluster)
    await serving.ask(ASKED)
    [tab] = serving.tabs.list()
    with monkeypatch.context() as patch:
        patch.setattr(serving.tabs._notes, "drop", stuck(serving.tabs._notes.drop, reached))
        serving.tabs.close(tab.job)
        with trio.fail_after(200):
            await reached.wait()
        assert tab.state is TabState.SETTLED
        await crash(serving, monkeypatch)
    assert tab.inputs == {}


async def test_notes_that_cannot_be_read_when_serving_begins_again_hold_no_request_up(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tab was opened by nobody, and all that asked for it waited, until a restart."""
    serving, refused = await serve(nursery, make_cluster(2)), trio.Event()

    async def refuse() -> tuple[bytes, ...]:
        await trio.lowlevel.checkpoint()
        refused.set()
        raise StoreUnavailable("the disk refused")

    def fault() -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(serving.tabs, "_look", fault)
        patch.setattr(serving.tabs._notes, "load", refuse)
        await refused.wait()
        await wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await serving.ask(ASKED)
    await trio.sleep(1)
    with trio.fail_after(20):
        assert (await serving.ask(ASKED)).outputs[0].data == whole_run(1)


async def over(tab: Tab) -> None:
    chain = tab.links.chain
    while not tab.is_over:
        await chain.wait_height(chain.height() + 1)
