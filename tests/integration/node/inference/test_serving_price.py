"""What a request may cost over the memory network: one cap for all of its slots."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.links import WorkerLost
from prsm.node.inference.planner import PriceOverCap, TooFewPeers
from prsm.node.inference.serving import tabs
from prsm.node.inference.serving.service import ServeRequest, Serving
from prsm.node.inference.serving.tab import TabRules, TabState
from prsm.node.inference.serving.tabs import ServingRules
from prsm.node.net.interface import Busy
from prsm.protocol.errors import PrsmError
from prsm.protocol.tensors import Tensor
from tests.tools.work import MODEL, WIDTH, Cluster, make_cluster, tensor
from tests.tools.work_chain import FUNDS

PRICE = 10
WHOLE = 256 * PRICE  # of eight micro-batches of 32 rows
LIFE = TabRules(life_ms=200_000, spare_ms=100_000)


async def adder(ref: str) -> bytes:
    assert ref == "adder"
    await trio.lowlevel.checkpoint()
    return MODEL


async def serve(nursery: trio.Nursery, cluster: Cluster, *, slots_max: int = 1024) -> Serving:
    await cluster.start(nursery)
    ids = iter(range(1, 1000))
    made = Serving(
        cluster.requester.jobs._requester,
        adder,
        rules=ServingRules(idle_s=30.0, slots_max=slots_max, tab=LIFE),
        new_id=lambda: next(ids).to_bytes(32, "big"),
    )
    await nursery.start(made.run)
    return made


def rows(count: int, *, first: int = 0) -> tuple[Tensor, ...]:
    """So many rows of `x` and `mask`, all different."""
    values = [bytes([(first + row) % 250, *bytes(WIDTH - 1)]) for row in range(count)]
    return tensor("x", values), tensor("mask", [bytes(WIDTH)] * count)


def asked(count: int, *, cap: int | None = None, first: int = 0) -> ServeRequest:
    return ServeRequest("adder", inputs=rows(count, first=first), price_cap=cap)


async def close_all(serving: Serving) -> None:
    """Have every tab paid, and what is left fetched back."""
    for tab in serving.tabs.list():
        serving.tabs.close(tab.job)
    with trio.fail_after(3000):
        while not all(tab.is_over for tab in serving.tabs.list()):  # noqa: ASYNC110 - a mock clock
            await trio.sleep(1)


async def test_cap_holds_for_all_micro_batches_and_is_checked_before_anything_is_locked(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    with pytest.raises(PriceOverCap, match=r"0\.00256 FTNS, 0\.002559 are") as caught:
        await serving.ask(asked(256, cap=WHOLE - 1))
    assert caught.value.spent == 0
    assert cluster.world.executed == []
    served = await serving.ask(asked(256, cap=WHOLE))
    assert (served.price, served.batches, served.cached) == (WHOLE, 8, 0)
    await close_all(serving)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - WHOLE


async def test_micro_batches_of_two_sizes_share_the_cap(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Rows 33 are a slot of 32 and a slot of 1, in two tabs."""
    serving = await serve(nursery, make_cluster(2))
    with pytest.raises(PriceOverCap) as caught:
        await serving.ask(asked(33, cap=33 * PRICE - 1))
    assert (caught.value.spent, caught.value.value) == (0, 33 * PRICE)
    assert (await serving.ask(asked(33, cap=33 * PRICE))).price == 33 * PRICE


async def test_what_comes_from_the_cache_asks_for_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    serving = await serve(nursery, make_cluster(2))
    await serving.ask(asked(64))
    again = await serving.ask(asked(96, cap=32 * PRICE))
    assert (again.cached, again.price) == (2, 32 * PRICE)
    assert (await serving.ask(asked(64, cap=0))).price == 0


async def test_second_try_is_paid_out_of_the_same_cap(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The worker that is lost may have answered, and claim its slot."""
    cluster = make_cluster(4)
    serving = await serve(nursery, cluster)
    for cap, is_answered in ((PRICE, False), (2 * PRICE, True)):
        first = await serving.ask(asked(1, first=cap))
        [victim] = [node for node in cluster.workers if node.address in first.workers]
        victim.kill()
        if is_answered:
            assert (await serving.ask(asked(1, cap=cap, first=cap + 1))).price == PRICE
        else:
            with pytest.raises(WorkerLost) as caught:
                await serving.ask(asked(1, cap=cap, first=cap + 1))
            assert caught.value.spent == PRICE


async def test_refusal_behind_the_first_slot_says_what_was_spent(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Tabs of four: their worker asks for more once the first one is open."""
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster, slots_max=5)
    worker = cluster.workers[0]

    async def ask_more() -> None:
        while not any(tab.state is TabState.OPEN for tab in serving.tabs.list()):  # noqa: ASYNC110 - as above
            await trio.sleep(0.001)
        worker.executor._terms.price_per_row = 1_000

    nursery.start_soon(ask_more)
    with pytest.raises(PrsmError) as caught:
        await serving.ask(asked(256, cap=WHOLE))
    await close_all(serving)
    paid = FUNDS - cluster.world.balance(cluster.requester.address)
    assert 0 < paid <= WHOLE
    assert caught.value.spent is not None
    assert paid <= caught.value.spent <= WHOLE


async def test_refusals_of_one_opening_are_apart(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Two wait for a tab that does not come: what one spent is not said of the other."""
    serving = await serve(nursery, make_cluster(1))
    told: list[Exception] = []

    async def ask(first: int) -> None:
        try:
            await serving.ask(asked(1, first=first))
        except TooFewPeers as error:
            told.append(error)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask, 1)
        asking.start_soon(ask, 2)
    one, other = told
    assert one is not other
    assert (str(one), vars(one)) == (str(other), vars(other))


async def test_tab_serves_to_its_last_slot_when_no_further_one_may_be_opened(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No slot is lost to the tab that would be opened ahead, so it ends and is paid."""
    monkeypatch.setattr(tabs, "TABS_MAX", 1)
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    for first in range(31):
        await serving.ask(asked(1, first=first))
    [tab] = serving.tabs.list()
    assert (tab.used, tab.under_way) == (len(tab.batch_rows), 0)
    with pytest.raises(Busy):
        await serving.ask(asked(1, first=31))
    await close_all(serving)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - 31 * PRICE
    assert (await serving.ask(asked(1, first=31))).price == PRICE
